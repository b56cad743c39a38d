"""V-STaR over a data set: means of what items are worth (`vstar_item.py`), and what follows."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_vdistill.metrics.vstar_item import (
    DURATIONS,
    ChainAnswer,
    VStarItem,
    is_about_all,
    item_scores,
    overall,
)

_TABULATED = ("acc", "tIoU_1", "tIoU_2", "vIoU_1", "vIoU_2", "mAM", "mLGM")
_NOTHING = VStarItem(None, (0.0, 0.0), (), (ChainAnswer(None, {}), ChainAnswer(None, {})))
_SCORES = tuple(item_scores(_NOTHING))
_ANSWERED, _DURATION, _DOMAIN, _FIRST = 0, 1, 2, 3
"""Columns of a row; from `_FIRST` on the scores."""


class VStar(Metric):
    """Acc, tIoU, R@m, spatial IoU, AP, AM and LGM a chain, mAM, mLGM and joint rates.

    Items without an answer score 0 throughout and stay in every denominator. The official script
    passes over them: it divides Acc and the joint rates with what of the whole by all items, and
    the means, the joint rate of when and where, and all that it reports by duration and domain, by
    those with an answer (`is_official`). A prediction is matched by its second; an item's spatial
    IoU is the mean over its true boxes.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    rows: list[Tensor]

    def __init__(
        self,
        domains: Sequence[str] = (),
        *,
        is_official: bool = False,
        is_strict: bool = False,
        **kwargs: Any,
    ) -> None:
        """Set up.

        Args:
            domains: Domains that are reported one by one; items of others count in the whole.
            is_official: Leave items without an answer out of the means, as the official script.
            is_strict: An IoU must exceed a threshold; else, as officially, it need only reach it.
            **kwargs: Passed to `torchmetrics.Metric`.
        """
        super().__init__(**kwargs)
        self.domains, self.is_official = list(domains), is_official
        self.passes = operator.gt if is_strict else operator.ge
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, items: Sequence[VStarItem]) -> None:
        """Add items.

        Raises:
            ValueError: For a truth that is not finite.
        """
        self.rows += [
            torch.tensor([self._row(item)], dtype=torch.float64, device=self.device)
            for item in items
        ]

    def compute(self) -> dict[str, Tensor]:
        """All scores as fractions in [0, 1] (LGM may exceed 1), empty without items.

        Keys: `acc`, `<measure>_<chain>`, `mAM`, `mLGM`, `joint/…`, and the first and last again by
        `duration/<bin>/…` and `domain/<name>/…`.
        """
        rows = dim_zero_cat(self.rows) if len(self.rows) else _none()
        if not len(rows):
            return {}
        result = self._report(rows)
        for name, (low, high) in DURATIONS.items():
            chosen = rows[(rows[:, _DURATION] >= low) & (rows[:, _DURATION] < high)]
            result |= self._part(f"duration/{name}/", chosen)
        for index, name in enumerate(self.domains):
            result |= self._part(f"domain/{name}/", rows[rows[:, _DOMAIN] == index])
        return {key: torch.tensor(value) for key, value in result.items()}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the scores that the papers tabulate; see `torchmetrics.Metric.plot`."""
        scores = self.compute() if val is None else val
        return self._plot({key: scores[key] for key in _TABULATED}, ax)

    def _row(self, item: VStarItem) -> list[float]:
        domain = float(self.domains.index(item.domain)) if item.domain in self.domains else -1.0
        scores = item_scores(item, self.passes)
        return [float(item.has_answer), item.duration_s, domain, *scores.values()]

    def _report(self, rows: Tensor) -> dict[str, float]:
        counted = rows[rows[:, _ANSWERED] > 0] if self.is_official else rows
        if not len(counted):
            counted = rows  # nothing but zeros
        means = {
            name: (rows if is_about_all(name) else counted)[:, column].mean().item()
            for column, name in enumerate(_SCORES, start=_FIRST)
        }
        return means | overall(means)

    def _part(self, prefix: str, rows: Tensor) -> dict[str, float]:
        if self.is_official:
            rows = rows[rows[:, _ANSWERED] > 0]
        if not len(rows):
            return {}
        report = self._report(rows)
        return {f"{prefix}{key}": report[key] for key in ("acc", "mAM", "mLGM")}


def _none() -> Tensor:
    return torch.zeros(0, _FIRST + len(_SCORES), dtype=torch.float64)
