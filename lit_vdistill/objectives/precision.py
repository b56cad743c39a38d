"""The precision in which probabilities are computed."""

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """At least in float32, as sums over a vocabulary need; float64 stays what it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
