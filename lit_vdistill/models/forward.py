"""Forward passes over prompts with completions, for any family.

A row is one completion of a prompt. Pixels go through the vision tower once a prompt however many
rows it has, and so do the prompt's tokens, unless they are told not to (`models/layout.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_vdistill.models import meter
from lit_vdistill.models.families import Backbone, MediaFeatures, family_of
from lit_vdistill.models.layout import PlacedPrompt, Row, dense_layout, packed_layout
from lit_vdistill.models.prompt import EncodedPrompt, PromptFeatures
from lit_vdistill.models.routers import balance_loss, routed_tokens
from lit_vdistill.models.sharding import is_sharded
from lit_vdistill.models.shared_prefix import kernel_of, packed_plan

SharedPrefix = Literal["auto", "always", "never"]


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
    router_loss: Float[Tensor, ""] | None = None
    """Load-balancing loss over all tokens that were run, prompts' too, each as often as it was;
    None where there is none to learn by (`router_loss_coef` 0, no gradients)."""


def encode_vision(
    backbone: Backbone, prompts: Sequence[EncodedPrompt]
) -> tuple[EncodedPrompt, ...]:
    """Prompts with the features of their media, by at most one call of the vision tower.

    Prompts that have features already are returned as they are; all others get some, a text those
    of no medium. A medium that several of these show is looked at once. Where none of them has one
    the tower is called all the same if others may wait for it: if its weights are sharded, since
    all processes gather them together, or if it is trained, since sharded training steps on stale
    gradients where a process leaves weights untouched. It then sees one blank image, whose part in
    the loss is 0 (`PromptFeatures.anchor`).

    Args:
        backbone: The model without its head (`model.model`).
        prompts: Text-only, image and video prompts in any mixture. Pixels may be on another device.
    """
    seen = list(prompts)
    unseen = [i for i, prompt in enumerate(prompts) if prompt.features is None]
    for i in unseen:
        seen[i] = replace(prompts[i], features=PromptFeatures((), ()))
    media = [i for i in unseen if prompts[i].kind != "text"]
    family = family_of(backbone.config)
    tower = family.tower(backbone)
    if media:
        showing = [prompts[i] for i in media]
        for i, features in zip(media, _features_of(backbone, showing), strict=True):
            positions = family.positions(backbone, prompts[i])
            seen[i] = replace(prompts[i], features=replace(features, positions=positions))
    elif unseen and _is_called_anyway(tower):
        # 0, with a gradient path to all of the tower where gradients are on.
        parts = _look(backbone, *family.blank(backbone)).parts()
        anchor = torch.stack([part.sum() for part in parts]).sum() * 0.0
        features = PromptFeatures((), (), anchor)
        seen[unseen[0]] = replace(prompts[unseen[0]], features=features)
    return tuple(seen)


def _features_of(backbone: Backbone, prompts: Sequence[EncodedPrompt]) -> list[PromptFeatures]:
    """Features of the media of each prompt, without positions; equal media are looked at once."""
    keys = [prompt.medium or index for index, prompt in enumerate(prompts)]
    shown: dict[str | int, EncodedPrompt] = {}
    for key, prompt in zip(keys, prompts, strict=True):
        shown.setdefault(key, prompt)
    device = next(family_of(backbone.config).tower(backbone).parameters()).device
    pixels = torch.cat([prompt.tower_input(device) for prompt in shown.values()])
    grids = [_given(prompt.grid_thw) for prompt in shown.values()]
    found = _look(backbone, pixels, torch.cat(grids))
    features, first = {}, 0
    for key, grid in zip(shown, grids, strict=True):
        part = slice(first, first + len(grid))
        levels = tuple(tuple(level[part]) for level in found.deepstack)
        features[key] = PromptFeatures(tuple(found.pooled[part]), levels)
        first = part.stop
    return [features[key] for key in keys]


def _look(
    backbone: Backbone, pixels: Float[Tensor, "patches values"], grids: Int[Tensor, "media 3"]
) -> MediaFeatures:
    meter.count_patches(int(grids.prod(dim=-1).sum()))
    family = family_of(backbone.config)
    device = next(family.tower(backbone).parameters()).device
    return family.look(backbone, pixels.to(device), grids.to(device))


def _is_called_anyway(tower: nn.Module) -> bool:
    is_trained = torch.is_grad_enabled() and any(p.requires_grad for p in tower.parameters())
    return is_trained or is_sharded(tower)


def rope_positions(backbone: Backbone, prompt: EncodedPrompt) -> tuple[Int[Tensor, "3 seq"], int]:
    """Positions of a prompt's tokens and the position of the token that follows it."""
    length = len(prompt.input_ids)
    if prompt.grid_thw is None:
        positions = torch.arange(length, device=prompt.input_ids.device).expand(3, -1)
        return positions, length
    known = None if prompt.features is None else prompt.features.positions
    # A prompt that was cut behind its media keeps the positions of what is left.
    family = family_of(backbone.config)
    positions = family.positions(backbone, prompt) if known is None else known[:, :length]
    return positions, int(positions.max()) + 1


def place_prompts(backbone: Backbone, prompts: Sequence[EncodedPrompt]) -> list[PlacedPrompt]:
    """Prompts with the positions of their tokens, ready for a layout."""
    return [PlacedPrompt(prompt.input_ids, *rope_positions(backbone, prompt)) for prompt in prompts]


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
    placed = place_prompts(backbone, prompts)
    if _is_shared(backbone, rows):
        layout = packed_layout(placed, rows, pad_id)
        assert layout.groups is not None
        plan = packed_plan(kernel_of(backbone), layout.groups, layout.ids.device)
    else:
        layout, plan = dense_layout(placed, rows, pad_id), None
    standing = [prompts[i] for i in layout.prompts]
    run = sum(len(prompt.input_ids) for prompt in standing)
    meter.count_prompts(run, [prompts[row.prompt] for row in rows])
    family = family_of(backbone.config)
    is_balanced = backbone.router_loss_coef and torch.is_grad_enabled()
    with routed_tokens(backbone, family.routers if is_balanced else ()) as routed:
        hidden = family.hidden_states(backbone, layout.ids, layout.position_ids, standing, plan)
    is_token = None if layout.is_token is None else layout.is_token.flatten()
    for prompt in prompts:
        if prompt.features is not None and prompt.features.anchor is not None:
            hidden = hidden + prompt.features.anchor.to(hidden.dtype)
    return CompletionStates(
        hidden=hidden[layout.row_sequence[:, None], layout.predicts],
        final=hidden[layout.row_sequence, layout.final],
        ids=layout.completion_ids,
        mask=layout.mask,
        router_loss=balance_loss(routed, is_token) if routed else None,
    )


def _is_shared(backbone: Backbone, rows: Sequence[Row]) -> bool:
    mode: SharedPrefix = backbone.shared_prefix
    has_siblings = len({row.prompt for row in rows}) < len(rows)
    return mode == "always" or (mode == "auto" and has_siblings)


def pad_token_id(model: PreTrainedModel) -> int:
    """An id to fill rows with; which one does not matter, as nothing attends to it."""
    return model.config.get_text_config().pad_token_id or 0


def _given(value: Tensor | None) -> Tensor:
    assert value is not None, "a prompt with a medium has pixels and a grid"
    return value
