"""Forward passes over prompts with completions, for any Qwen-VL.

A row is one completion of a prompt. Pixels go through the vision tower once a prompt however many
rows it has, and so do the prompt's tokens, unless they are told not to (`models/layout.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_vdistill.models import meter
from lit_vdistill.models.layout import PlacedPrompt, Row, dense_layout, packed_layout
from lit_vdistill.models.positions import mrope_positions
from lit_vdistill.models.prompt import EncodedPrompt, PromptFeatures
from lit_vdistill.models.sharding import is_sharded
from lit_vdistill.models.shared_prefix import kernel_of, packed_plan

SharedPrefix = Literal["auto", "always", "never"]
_KINDS = ("image", "video")

Backbone = Any
"""A Qwen-VL without its language-model head (`model.model`): the vision tower `visual`, `config`
and the feature getters. `nn.Module` hides their types."""


@dataclass(frozen=True, slots=True)
class CompletionStates:
    """Last hidden states over completions."""

    hidden: Float[Tensor, "rows seq hidden"]
    """`hidden[r, t]` predicts `ids[r, t]`: the state one position before it."""
    final: Float[Tensor, "rows hidden"]
    """The state at the last token of each row, which has seen all of it."""
    ids: Int[Tensor, "rows seq"]
    mask: Bool[Tensor, "rows seq"]
    """True where there is a completion token and not padding."""


def encode_vision(
    backbone: Backbone, prompts: Sequence[EncodedPrompt]
) -> tuple[EncodedPrompt, ...]:
    """Prompts with the features of their media, by at most one call of the vision tower.

    Prompts that have features already are returned as they are; all others get some, a text those
    of no medium. Where none of these has a medium the tower is called all the same if others may
    wait for it: if its weights are sharded, since all processes gather them together, or if it is
    trained, since sharded training steps on stale gradients where a process leaves weights
    untouched. It then sees one blank image, whose part in the loss is 0 (`PromptFeatures.anchor`).

    Args:
        backbone: The model without its head (`model.model`).
        prompts: Text-only, image and video prompts in any mixture. Pixels may be on another device.
    """
    seen = list(prompts)
    unseen = [i for i, prompt in enumerate(prompts) if prompt.features is None]
    for i in unseen:
        seen[i] = replace(prompts[i], features=PromptFeatures((), ()))
    media = [i for i in unseen if prompts[i].kind != "text"]
    if media:
        device = next(backbone.visual.parameters()).device
        pixels = torch.cat([prompts[i].tower_input(device) for i in media])
        grids = torch.cat([_given(prompts[i].grid_thw) for i in media])
        found = _look(backbone, pixels, grids)
        first = 0
        for i in media:
            part = slice(first, first + len(_given(prompts[i].grid_thw)))
            levels = tuple(tuple(level[part]) for level in found.deepstack_features)
            pooled, positions = tuple(found.pooler_output[part]), _positions(backbone, prompts[i])
            features = PromptFeatures(pooled, levels, positions=positions)
            seen[i] = replace(prompts[i], features=features)
            first = part.stop
    elif unseen and _is_called_anyway(backbone.visual):
        features = PromptFeatures((), (), _look_at_nothing(backbone))
        seen[unseen[0]] = replace(prompts[unseen[0]], features=features)
    return tuple(seen)


@dataclass(slots=True)
class _EncoderOutput:
    """The two fields that Qwen-VL models read of an encoder output."""

    pooler_output: list[Tensor]
    """Features of each medium, a row a placeholder."""
    deepstack_features: list[list[Tensor]]
    """The same from earlier layers, by level."""


def _look(
    backbone: Backbone, pixels: Float[Tensor, "patches values"], grids: Int[Tensor, "media 3"]
) -> _EncoderOutput:
    # Patches of images and videos are of one kind to the tower, so both getters do the same.
    meter.count_patches(len(pixels))
    device = next(backbone.visual.parameters()).device
    output = backbone.get_image_features(pixels.to(device), grids.to(device), return_dict=True)
    levels = getattr(output, "deepstack_features", None) or []
    return _EncoderOutput(list(output.pooler_output), [list(level) for level in levels])


def _is_called_anyway(tower: nn.Module) -> bool:
    is_trained = torch.is_grad_enabled() and any(p.requires_grad for p in tower.parameters())
    return is_trained or is_sharded(tower)


def _look_at_nothing(backbone: Backbone) -> Float[Tensor, ""]:
    """0, with a gradient path to all of the tower where gradients are on."""
    vision = backbone.config.vision_config
    edge = vision.spatial_merge_size
    patch = 3 * vision.temporal_patch_size * vision.patch_size**2
    found = _look(backbone, torch.zeros(edge * edge, patch), torch.tensor([[1, edge, edge]]))
    parts = [*found.pooler_output, *(part for level in found.deepstack_features for part in level)]
    return torch.stack([part.sum() for part in parts]).sum() * 0.0


def rope_positions(backbone: Backbone, prompt: EncodedPrompt) -> tuple[Int[Tensor, "3 seq"], int]:
    """M-RoPE positions of a prompt and the position of the token that follows it."""
    length = len(prompt.input_ids)
    if prompt.grid_thw is None:
        positions = torch.arange(length, device=prompt.input_ids.device).expand(3, -1)
        return positions, length
    known = None if prompt.features is None else prompt.features.positions
    # A prompt that was cut behind its media keeps the positions of what is left.
    positions = _positions(backbone, prompt) if known is None else known[:, :length]
    return positions, int(positions.max()) + 1


def _positions(backbone: Backbone, prompt: EncodedPrompt) -> Int[Tensor, "3 seq"]:
    vision = backbone.config.vision_config
    seconds = 1.0 if prompt.second_per_grid is None else prompt.second_per_grid
    return mrope_positions(
        prompt.token_types,
        _given(prompt.grid_thw),
        vision.spatial_merge_size,
        seconds * getattr(vision, "tokens_per_second", 1),
    )


def completion_states(
    backbone: Backbone, prompts: Sequence[EncodedPrompt], rows: Sequence[Row], pad_id: int
) -> CompletionStates:
    """Hidden states over the completions of all rows.

    Completions of one prompt share its tokens, unless the network was loaded with
    `shared_prefix: never`; with `auto` only where a prompt has more than one.

    Args:
        backbone: The model without its head (`model.model`).
        prompts: The prompts, on the model's device.
        rows: Completions, each with the index of its prompt; none may be empty.
        pad_id: Id to fill sequences with.
    """
    prompts = encode_vision(backbone, prompts)
    placed = [
        PlacedPrompt(prompt.input_ids, *rope_positions(backbone, prompt)) for prompt in prompts
    ]
    if _is_shared(backbone, rows):
        layout = packed_layout(placed, rows, pad_id)
        assert layout.groups is not None
        plan = packed_plan(kernel_of(backbone), layout.groups, layout.ids.device)
    else:
        layout, plan = dense_layout(placed, rows, pad_id), None
    meter.count_prompts([prompts[i] for i in layout.prompts], [prompts[r.prompt] for r in rows])
    hidden = backbone(
        input_ids=layout.ids,
        position_ids=layout.position_ids,
        mm_encoder_outputs=vision_inputs([prompts[i] for i in layout.prompts]),
        attention_plan=plan,
        use_cache=False,
    ).last_hidden_state
    for prompt in prompts:
        if prompt.features is not None and prompt.features.anchor is not None:
            hidden = hidden + prompt.features.anchor.to(hidden.dtype)
    return CompletionStates(
        hidden=hidden[layout.row_sequence[:, None], layout.predicts],
        final=hidden[layout.row_sequence, layout.final],
        ids=layout.completion_ids,
        mask=layout.mask,
    )


def _is_shared(backbone: Backbone, rows: Sequence[Row]) -> bool:
    mode: SharedPrefix = backbone.shared_prefix
    has_siblings = len({row.prompt for row in rows}) < len(rows)
    return mode == "always" or (mode == "auto" and has_siblings)


def vision_inputs(prompts: Sequence[EncodedPrompt]) -> dict[str, Any] | None:
    """Features of prompts in the order in which they stand, as `mm_encoder_outputs` takes them."""
    inputs: dict[str, Any] = {}
    for kind in _KINDS:
        found = [p.features for p in prompts if p.kind == kind and p.features is not None]
        if found:
            levels = range(len(found[0].deepstack))
            inputs[kind] = _EncoderOutput(
                pooler_output=[part for features in found for part in features.pooled],
                deepstack_features=[[p for f in found for p in f.deepstack[k]] for k in levels],
            )
    return inputs or None


def pad_token_id(model: PreTrainedModel) -> int:
    """An id to fill rows with; which one does not matter, as nothing attends to it."""
    return model.config.get_text_config().pad_token_id or 0


def _given(value: Tensor | None) -> Tensor:
    assert value is not None, "a prompt with a medium has pixels and a grid"
    return value
