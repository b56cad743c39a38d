"""V-STaR: what, when and where of a question, by two chains of reasoning.

Chain 1 asks what, when, where; chain 2 what, where, when; both share the answer. Each item has a
rating of its answer by a judge (0 to 3, right from 2), a temporal IoU and a spatial IoU a chain.
"""

import math
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_vdistill.responses.geometry import box_iou, temporal_iou
from lit_vdistill.types import Box, Span

RIGHT_FROM = 2
"""The least rating that counts as right."""
TIME_THRESHOLDS = (0.3, 0.5, 0.7)
SPACE_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
DURATIONS = {"short": (0.0, 60.0), "medium": (60.0, 180.0), "long": (180.0, math.inf)}
"""Seconds, lower end included."""
_LARGEST = 1.0 - 1e-6


@dataclass(frozen=True, slots=True)
class ChainAnswer:
    """When and where, as one chain was answered."""

    span: Span | None
    """Seconds; None = nothing could be read."""
    boxes: Mapping[int, Sequence[Box]]
    """Predicted boxes by whole second, in the units of the truth; the best of a second counts."""


@dataclass(frozen=True, slots=True)
class VStarItem:
    """One question with its truth and what was answered."""

    rating: int | None
    """The judge's 0 to 3; None = no answer was given, or the rating could not be read."""
    span: Span
    """True segment in seconds."""
    boxes: Sequence[tuple[int, Box]]
    """True boxes, each with its whole second; a second may have several."""
    chains: tuple[ChainAnswer, ChainAnswer]
    has_answer: bool = True
    """False when the answer is empty: then nothing of the item is right, whatever chains say."""
    duration_s: float = 0.0
    domain: str = ""


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
        truth = [*item.span, *(corner for _, box in item.boxes for corner in box)]
        if not all(map(math.isfinite, truth)):
            raise ValueError(f"V-STaR: a true segment or box is not finite: {truth}")
        times = [
            0.0 if chain.span is None else temporal_iou(chain.span, item.span)
            for chain in item.chains
        ]
        frames = [
            [
                max((box_iou(box, truth) for box in chain.boxes.get(second, ())), default=0.0)
                for second, truth in item.boxes
            ]
            for chain in item.chains
        ]
        count = max(1, len(item.boxes))
        precisions = [
            sum(self.passes(iou, threshold) for iou in ious) / count
            for ious in frames
            for threshold in SPACE_THRESHOLDS
        ]
        is_right = item.rating is not None and RIGHT_FROM <= item.rating <= 3
        domain = float(self.domains.index(item.domain)) if item.domain in self.domains else -1.0
        spaces = [sum(ious) / count for ious in frames]
        worth = [float(is_right), *times, *spaces, *precisions]
        if not item.has_answer:
            worth = [0.0] * len(worth)
        right, *rest = worth
        return [float(item.has_answer), right, item.duration_s, domain, *rest]

    def _report(self, rows: Tensor) -> dict[str, float]:
        counted = rows[rows[:, _ANSWERED] > 0] if self.is_official else rows
        if not len(counted):
            counted = rows  # nothing but zeros
        result = {"acc": rows[:, _RIGHT].mean().item()}
        for chain in (1, 2):
            times, spaces = counted[:, _TIME + chain - 1], counted[:, _SPACE + chain - 1]
            time, space = times.mean().item(), spaces.mean().item()
            result |= {
                f"tIoU_{chain}": time,
                f"vIoU_{chain}": space,
                f"AM_{chain}": arithmetic_mean(result["acc"], time, space),
                f"LGM_{chain}": log_geometric_mean(result["acc"], time, space),
            }
            for threshold in TIME_THRESHOLDS:
                share = self.passes(times, threshold).double().mean().item()
                result[f"R@{threshold}_{chain}"] = share
            for index, threshold in enumerate(SPACE_THRESHOLDS):
                column = _PRECISION + (chain - 1) * len(SPACE_THRESHOLDS) + index
                result[f"AP@{threshold}_{chain}"] = counted[:, column].mean().item()
            result |= self._joint(rows, counted, chain)
        result["mAM"] = (result["AM_1"] + result["AM_2"]) / 2
        result["mLGM"] = (result["LGM_1"] + result["LGM_2"]) / 2
        return result

    def _part(self, prefix: str, rows: Tensor) -> dict[str, float]:
        if self.is_official:
            rows = rows[rows[:, _ANSWERED] > 0]
        if not len(rows):
            return {}
        report = self._report(rows)
        return {f"{prefix}{key}": report[key] for key in ("acc", "mAM", "mLGM")}

    def _joint(self, rows: Tensor, counted: Tensor, chain: int) -> dict[str, float]:
        """Shares of items that are right in several ways at once.

        Of all items, but for when and where together: of those that count.
        """

        def share(among: Tensor, *ways: str) -> float:
            is_met = {
                "what": among[:, _RIGHT] > 0,
                "when": self.passes(among[:, _TIME + chain - 1], TIME_THRESHOLDS[0]),
                "where": self.passes(among[:, _SPACE + chain - 1], SPACE_THRESHOLDS[0]),
            }
            return torch.stack([is_met[way] for way in ways]).all(dim=0).double().mean().item()

        joint = {
            "what_when": share(rows, "what", "when"),
            "what_where": share(rows, "what", "where"),
            "when_where": share(counted, "when", "where"),
            "all": share(rows, "what", "when", "where"),
        }
        return {f"joint/{key}_{chain}": value for key, value in joint.items()}


_TABULATED = ("acc", "tIoU_1", "tIoU_2", "vIoU_1", "vIoU_2", "mAM", "mLGM")
_ANSWERED, _RIGHT, _DURATION, _DOMAIN, _TIME, _SPACE, _PRECISION = 0, 1, 2, 3, 4, 6, 8


def arithmetic_mean(accuracy: float, time: float, space: float) -> float:
    """AM of a chain (VISD Eq. 18)."""
    return (accuracy + time + space) / 3


def log_geometric_mean(accuracy: float, time: float, space: float) -> float:
    """LGM of a chain: minus the mean of ln(1 - x), on means over the data set.

    The official script divides by zero for a perfect score; here it is taken as 1 - 1e-6, with a
    warning.
    """
    values = (accuracy, time, space)
    if max(values) > _LARGEST:
        warnings.warn("V-STaR: LGM of a perfect score is infinite; 1 - 1e-6 is taken", stacklevel=2)
    return -sum(math.log(1.0 - min(value, _LARGEST)) for value in values) / 3


def _none() -> Tensor:
    return torch.zeros(0, _PRECISION + 2 * len(SPACE_THRESHOLDS), dtype=torch.float64)
