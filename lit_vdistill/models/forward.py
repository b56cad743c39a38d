"""Forward passes over prompts with completions, for any Qwen-VL.

A row is one completion of a prompt. Pixels go through the vision tower once a prompt however many
rows it has, and so do the prompt's tokens (`models/layout.py`). Sequences are padded on the right,
where causal attention never looks, so padding changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from lit_vdistill.models.layout import PlacedPrompt, Row, dense_layout, packed_layout
from lit_vdistill.models.prompt import EncodedPrompt

_KINDS = ("image", "video")

Backbone = Any
"""A Qwen-VL without its language-model head (`model.model`): the vision tower `visual`, `config`,
`get_rope_index` and the feature getters. `nn.Module` hides their types."""


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


@dataclass(frozen=True, slots=True)
class VisionFeatures:
    """Vision features of each prompt, and a zero that ties the tower into the graph."""

    per_prompt: tuple[dict[str, Any] | None, ...]
    """`{"kind", "pooled", "deepstack"}`; None for a text-only prompt."""
    anchor: Float[Tensor, ""]
    """0, with a gradient path to the tower when nothing else has one: sharded training hangs or
    steps on stale gradients when one rank's batch leaves parameters untouched."""


def encode_vision(backbone: Backbone, prompts: Sequence[EncodedPrompt]) -> VisionFeatures:
    """Run the vision tower once over the pixels of all prompts.

    Args:
        backbone: The model without its head (`model.model`).
        prompts: Text-only, image and video prompts in any mixture.
    """
    found: list[dict[str, Any] | None] = [None] * len(prompts)
    for kind in _KINDS:
        members = [i for i, prompt in enumerate(prompts) if prompt.kind == kind]
        if not members:
            continue
        pixels = torch.cat([_given(prompts[i].pixels) for i in members])
        grids = torch.cat([_given(prompts[i].grid_thw) for i in members])
        encode = backbone.get_video_features if kind == "video" else backbone.get_image_features
        output = encode(pixels, grids, return_dict=True)
        deepstack = getattr(output, "deepstack_features", None) or []
        first = 0
        for i in members:
            last = first + len(_given(prompts[i].grid_thw))
            found[i] = {
                "kind": kind,
                "pooled": output.pooler_output[first:last],
                "deepstack": [level[first:last] for level in deepstack],
            }
            first = last
    anchor = next(backbone.parameters()).new_zeros(())
    is_trained = any(p.requires_grad for p in backbone.visual.parameters())
    if is_trained and torch.is_grad_enabled() and not any(found):
        anchor = _touch(backbone)
    return VisionFeatures(tuple(found), anchor)


def rope_positions(backbone: Backbone, prompt: EncodedPrompt) -> tuple[Int[Tensor, "3 seq"], int]:
    """M-RoPE positions of a prompt and the position of the token that follows it."""
    length = len(prompt.input_ids)
    if prompt.grid_thw is None:
        positions = torch.arange(length, device=prompt.input_ids.device).expand(3, -1)
        return positions, length
    extra: dict[str, Any] = {}
    if prompt.second_per_grid is not None:
        extra["second_per_grid_ts"] = [prompt.second_per_grid] * len(prompt.grid_thw)
    positions, _ = backbone.get_rope_index(
        prompt.input_ids[None],
        mm_token_type_ids=prompt.token_types[None],
        **{f"{prompt.kind}_grid_thw": prompt.grid_thw},
        **extra,
    )
    return positions[:, 0], int(positions.max()) + 1


def completion_states(
    backbone: Backbone, prompts: Sequence[EncodedPrompt], rows: Sequence[Row], pad_id: int
) -> CompletionStates:
    """Hidden states over the completions of all rows.

    Completions of one prompt share its tokens where the attention kernel takes a mask (`sdpa`).

    Args:
        backbone: The model without its head (`model.model`).
        prompts: The prompts, on the model's device.
        rows: Completions, each with the index of its prompt; none may be empty.
        pad_id: Id to fill sequences with.
    """
    features = encode_vision(backbone, prompts)
    placed = [
        PlacedPrompt(prompt.input_ids, *rope_positions(backbone, prompt)) for prompt in prompts
    ]
    takes_mask = backbone.config._attn_implementation == "sdpa"
    layout = (packed_layout if takes_mask else dense_layout)(placed, rows, pad_id)
    hidden = backbone(
        input_ids=layout.ids,
        position_ids=layout.position_ids,
        attention_mask=layout.attention_mask,
        mm_encoder_outputs=vision_inputs(features, layout.prompts),
        use_cache=False,
    ).last_hidden_state
    hidden = hidden + features.anchor.to(hidden.dtype)
    return CompletionStates(
        hidden=hidden[layout.row_sequence[:, None], layout.predicts],
        final=hidden[layout.row_sequence, layout.final],
        ids=layout.completion_ids,
        mask=layout.mask,
    )


def vision_inputs(features: VisionFeatures, order: Sequence[int]) -> dict[str, Any] | None:
    """Precomputed features for rows of the given prompts, as `mm_encoder_outputs` takes them."""
    inputs: dict[str, Any] = {}
    for kind in _KINDS:
        chosen = [f for i in order if (f := features.per_prompt[i]) and f["kind"] == kind]
        if chosen:
            levels = range(len(chosen[0]["deepstack"]))
            inputs[kind] = _EncoderOutput(
                pooler_output=[part for f in chosen for part in f["pooled"]],
                deepstack_features=[[p for f in chosen for p in f["deepstack"][k]] for k in levels],
            )
    return inputs or None


@dataclass(slots=True)
class _EncoderOutput:
    """The two fields that Qwen-VL models read of an encoder output."""

    pooler_output: list[Tensor]
    deepstack_features: list[list[Tensor]]


def _touch(backbone: Backbone) -> Float[Tensor, ""]:
    """0 times the sum of the features of one blank image."""
    vision = backbone.config.vision_config
    edge = vision.spatial_merge_size
    grid = torch.tensor([[1, edge, edge]], device=next(backbone.parameters()).device)
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    blank = next(backbone.parameters()).new_zeros(edge * edge, values)
    output = backbone.get_image_features(blank, grid, return_dict=True)
    parts = [
        *output.pooler_output,
        *(p for lv in getattr(output, "deepstack_features", []) for p in lv),
    ]
    return torch.stack([part.sum() for part in parts]).sum() * 0.0


def pad_token_id(model: PreTrainedModel) -> int:
    """An id to fill rows with; which one does not matter, as nothing attends to it."""
    return model.config.get_text_config().pad_token_id or 0


def _given(value: Tensor | None) -> Tensor:
    assert value is not None, "a prompt with a medium has pixels and a grid"
    return value
