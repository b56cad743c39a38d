"""Whose state goes on: layers that keep a state of fixed size instead of keys and values."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_vdistill.models.plans.gather import Gather
from lit_vdistill.models.plans.groups import PrefixGroup, segments_of
from lit_vdistill.models.plans.padding import Padded, size_class


@dataclass(frozen=True, slots=True)
class LayerState:
    """What a recurrent layer keeps of the tokens that it has read, a row a sequence."""

    inputs: Float[Tensor, "rows history channels"]
    """The last inputs of its convolution."""
    memory: Float[Tensor, "rows heads key value"]

    def select(self, rows: Int[Tensor, " chosen"]) -> "LayerState":
        """The states of these rows, which may stand there several times."""
        return LayerState(self.inputs.index_select(0, rows), self.memory.index_select(0, rows))

    @classmethod
    def cat(cls, parts: Sequence["LayerState"]) -> "LayerState":
        """All rows of several."""
        return cls(
            torch.cat([part.inputs for part in parts]), torch.cat([part.memory for part in parts])
        )


@dataclass(frozen=True, slots=True)
class Packing:
    """Rows one behind another in a single sequence, without padding."""

    bounds: Int[Tensor, " rows_and_one"]
    """Where each begins, and where the last ends: a kernel's `cu_seqlens`."""
    row_of: Int[Tensor, " seq"]
    """The row of each token."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Packing":
        """Rows of these lengths."""
        sizes = torch.tensor([0, *lengths])
        row_of = torch.arange(len(lengths)).repeat_interleave(sizes[1:])
        return cls(sizes.cumsum(0).to(device), row_of.to(device))


@runtime_checkable
class Recurrence(Protocol):
    """The arithmetic of one recurrent layer over rows of tokens."""

    def __call__(
        self,
        inputs: Float[Tensor, "rows seq channels"],
        lengths: Int[Tensor, " rows"] | Packing | None,
        state: LayerState | None,
        *,
        keeps_state: bool,
    ) -> tuple[Float[Tensor, "rows seq heads dim"], LayerState | None]:
        """What each token reads, and the state behind the last of each row.

        Args:
            inputs: What the layer has made of each token alone.
            lengths: Tokens of each row, padding on the right; None where there is none. With a
                `Packing` the rows are one sequence.
            state: Behind what came before; None where nothing did.
            keeps_state: Whether the state behind is asked for.
        """
        ...


class SharedStates:
    """Prompts from nothing, each once; completions from the state behind their prompt."""

    def __init__(
        self, groups: Sequence[PrefixGroup], device: torch.device, *, is_packed: bool = False
    ) -> None:
        """Prepare the index.

        Args:
            groups: Where prompts and completions stand.
            device: The tokens'.
            is_packed: Run all prompts, and then all completions, as one sequence each, for a
                recurrence that keeps rows apart (`can_pack`); else as rows of similar length.
        """
        length = groups[-1].stop
        prompts, completions = [], []
        for segment in segments_of(groups):
            if not segment.prefix:
                prompts.append((segment.own, 0))
            elif segment.own:
                completions.append((segment.own, len(prompts) - 1))
        by_length = _batches(prompts, is_packed)
        place = {index: row for row, index in enumerate(i for part in by_length for i in part)}
        owned = [(own, place[owner]) for own, owner in completions]
        rows_of = _Rows.packed if is_packed else _Rows.padded
        self.prompts = [rows_of([prompts[i] for i in part], length, device) for part in by_length]
        self.completions = [
            rows_of([owned[i] for i in part], length, device) for part in _batches(owned, is_packed)
        ]
        parts = [*self.prompts, *self.completions]
        slots = torch.cat([part.gather.index.cpu() for part in parts])
        is_real = torch.cat([part.is_real for part in parts])
        order = torch.empty(length, dtype=torch.long)
        order[slots[is_real]] = is_real.nonzero()[:, 0]
        self.order = Gather.of(order, torch.ones_like(order, dtype=torch.bool), len(slots), device)

    def carry(
        self, inputs: Float[Tensor, "1 seq channels"], recurrence: Recurrence
    ) -> Float[Tensor, "1 seq heads dim"]:
        """What each token of the flat sequence reads in one layer."""
        outputs, states = [], []
        for rows in self.prompts:
            found, state = recurrence(
                rows.of_flat(inputs[0]), rows.lengths, None, keeps_state=bool(self.completions)
            )
            outputs.append(found.flatten(0, 1))
            if state is not None:
                states.append(state)
        behind = LayerState.cat(states) if states else None
        for rows in self.completions:
            assert behind is not None
            found, _ = recurrence(
                rows.of_flat(inputs[0]), rows.lengths, behind.select(rows.owners),
                keeps_state=False,
            )  # fmt: skip
            outputs.append(found.flatten(0, 1))
        return self.order(torch.cat(outputs))[None]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Sequences that are run together."""

    gather: Gather
    is_real: Bool[Tensor, " slots"]
    lengths: Int[Tensor, " rows"] | Packing | None
    owners: Int[Tensor, " rows"]
    """The state that each begins with."""

    @classmethod
    def padded(cls, rows: Sequence[tuple[range, int]], total: int, device: torch.device) -> "_Rows":
        """Of similar length, padded on the right by repeating their last token."""
        padded = Padded.of([own for own, _ in rows])
        is_real = padded.is_real.flatten()
        lengths = padded.is_real.sum(dim=1).to(device)
        return cls(
            gather=Gather.of(padded.index.flatten(), is_real, total, device),
            is_real=is_real,
            lengths=None if bool(is_real.all()) else lengths,
            owners=torch.tensor([owner for _, owner in rows], device=device),
        )

    @classmethod
    def packed(cls, rows: Sequence[tuple[range, int]], total: int, device: torch.device) -> "_Rows":
        """One behind another, whatever their lengths."""
        index = torch.tensor([place for own, _ in rows for place in own])
        is_real = torch.ones_like(index, dtype=torch.bool)
        return cls(
            gather=Gather.of(index, is_real, total, device),
            is_real=is_real,
            lengths=Packing.of([len(own) for own, _ in rows], device),
            owners=torch.tensor([owner for _, owner in rows], device=device),
        )

    def of_flat(self, flat: Float[Tensor, "seq channels"]) -> Float[Tensor, "rows width channels"]:
        """The rows' tokens."""
        count = 1 if isinstance(self.lengths, Packing) else len(self.owners)
        return self.gather(flat[:, None])[:, 0].unflatten(0, (count, -1))


def can_pack(device: torch.device) -> bool:
    """Whether recurrences keep packed rows apart: by `flash-linear-attention`'s kernel, on GPU."""
    return device.type == "cuda" and find_spec("fla") is not None


def _batches(rows: Sequence[tuple[range, int]], is_packed: bool) -> list[list[int]]:
    """Indices of rows that are run together: all, or those that may be padded to one another."""
    if is_packed:
        return [[*range(len(rows))]] if rows else []
    members: dict[int, list[int]] = {}
    for index, (own, _) in enumerate(rows):
        members.setdefault(size_class(len(own)), []).append(index)
    return list(members.values())
