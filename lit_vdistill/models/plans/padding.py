"""Sequences of similar length as rows of one batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

_STEP = 1.25
"""Lengths within one such factor are padded to one."""
_SHORT = 16
"""Lengths up to this are padded to one."""


@dataclass(frozen=True, slots=True)
class Padded:
    """Positions of sequences, padded to one length by repeating their last."""

    index: Int[Tensor, "rows width"]
    is_real: Bool[Tensor, "rows width"]

    @classmethod
    def of(cls, sequences: Sequence[range]) -> "Padded":
        """Those of some sequences; on CPU."""
        starts = torch.tensor([s.start for s in sequences])[:, None]
        lengths = torch.tensor([len(s) for s in sequences])[:, None]
        steps = torch.arange(int(lengths.max()))
        return cls(starts + steps.minimum(lengths - 1).clamp(min=0), steps < lengths)


def size_class(length: int) -> int:
    """Equal for lengths that may be padded to one another; no length is a class of its own."""
    if not length:
        return -1
    return math.ceil(math.log(max(length, _SHORT), _STEP))
