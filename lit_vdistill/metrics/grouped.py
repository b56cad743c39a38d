"""A mean by group and over all groups."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class GroupedMean(Metric):
    """Means of one value an item, by group (a task, say) and over all items.

    `compute` returns `{"overall": …, "<group>": …}`, leaving out groups without items. The overall
    mean is over items, not over groups.
    """

    is_differentiable = False
    full_state_update = False
    totals: Tensor
    counts: Tensor

    def __init__(self, groups: Sequence[str], **kwargs: Any) -> None:
        """Name the groups.

        Args:
            groups: All groups that may come.
            **kwargs: Passed to `torchmetrics.Metric`.
        """
        super().__init__(**kwargs)
        self.groups = list(groups)
        zeros = torch.zeros(len(self.groups), dtype=torch.float64)
        self.add_state("totals", zeros, dist_reduce_fx="sum")
        self.add_state("counts", zeros.clone(), dist_reduce_fx="sum")

    def update(self, values: Sequence[float], groups: Sequence[str]) -> None:
        """Add items with their groups.

        Raises:
            ValueError: For a group that was not named.
        """
        for value, group in zip(values, groups, strict=True):
            index = self.groups.index(group)
            self.totals[index] += value
            self.counts[index] += 1

    def compute(self) -> dict[str, Tensor]:
        """Means by group, and `overall`; empty when nothing was added."""
        if not self.counts.sum():
            return {}
        means = {
            name: (self.totals[i] / self.counts[i]).float()
            for i, name in enumerate(self.groups)
            if self.counts[i]
        }
        return {"overall": (self.totals.sum() / self.counts.sum()).float(), **means}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the means, or given ones; see `torchmetrics.Metric.plot`."""
        return self._plot(val, ax)
