"""Rows of a tensor by index, with a gradient that is as deterministic and as fast as they are."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag


@dataclass(frozen=True, slots=True)
class Gather:
    """An index that may name a row often, and where each row's copies then are.

    The gradient of a row is the sum over its copies, in their order. `index_select` scatters
    instead, which on GPU adds in any order.
    """

    index: Int[Tensor, " chosen"]
    copies: Int[Tensor, " real"]
    """Places of the copies of row 0, of row 1, …"""
    offsets: Int[Tensor, " rows"]
    """Where in `copies` each row's begin."""

    @classmethod
    def of(
        cls,
        index: Int[Tensor, " chosen"],
        is_real: Bool[Tensor, " chosen"],
        num_rows: int,
        device: torch.device,
    ) -> "Gather":
        """Prepare an index into `num_rows` rows.

        Args:
            index: The rows to choose; on CPU, and so is `is_real`.
            is_real: False for padding, whose gradient is dropped: the caller knows it to be 0.
            num_rows: Rows of the tensors to choose from.
            device: Where those tensors are.
        """
        places = is_real.nonzero()[:, 0]
        rows = index[places]
        copies = places[rows.argsort(stable=True)]
        counts = rows.bincount(minlength=num_rows)
        offsets = counts.cumsum(0) - counts
        return cls(index.to(device), copies.to(device), offsets.to(device))

    def __call__(self, flat: Float[Tensor, "rows heads dim"]) -> Float[Tensor, "chosen heads dim"]:
        """The chosen rows."""
        return _GatherFunction.apply(flat, self.index, self.copies, self.offsets)  # type: ignore[return-value]


class _GatherFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, flat: Tensor, index: Tensor, copies: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(copies, offsets)
        return flat.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        copies, offsets = ctx.saved_tensors  # read once: checkpointing refuses a second time
        summed = embedding_bag(copies, gradient.flatten(1), offsets, mode="sum")
        return summed.unflatten(1, gradient.shape[1:]), None, None, None
