"""Temporal and spatial grounding metrics over a data set, full denominators."""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_vdistill.responses.geometry import box_iou, temporal_iou
from lit_vdistill.types import Box, Span


class _MeanOverItems(Metric):
    """Mean of one value an item; an item without a prediction counts with 0."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def add(self, values: Sequence[float]) -> None:
        self.total += sum(values)
        self.count += len(values)

    def compute(self) -> Tensor:
        """Mean over all items seen; NaN when there was none."""
        return (self.total / self.count).float()

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the mean, or given ones; see `torchmetrics.Metric.plot`."""
        return self._plot(val, ax)


class TemporalIoU(_MeanOverItems):
    """Mean temporal IoU (mIoU, R-MSD Table 2 "When"), in [0, 1]."""

    def update(self, predicted: Sequence[Span | None], truth: Sequence[Span]) -> None:
        """Add items.

        Args:
            predicted: Seconds; None = nothing could be read, which scores 0.
            truth: Seconds.
        """
        self.add(_temporal_ious(predicted, truth))


class TemporalRecall(_MeanOverItems):
    """R@m: share of items whose temporal IoU reaches a threshold (>=, as Time-R1 and V-STaR).

    Xiaomi's Time-R1 has it exceed the threshold: `is_strict`.
    """

    def __init__(self, threshold: float, *, is_strict: bool = False, **kwargs: Any) -> None:
        """Set m.

        Args:
            threshold: m, e.g. 0.3, 0.5 or 0.7.
            is_strict: Whether an IoU of m itself is too little.
            **kwargs: Passed to `torchmetrics.Metric`.
        """
        super().__init__(**kwargs)
        self.threshold = threshold
        self.passes = operator.gt if is_strict else operator.ge

    def update(self, predicted: Sequence[Span | None], truth: Sequence[Span]) -> None:
        """Add items, as `TemporalIoU.update`."""
        ious = _temporal_ious(predicted, truth)
        self.add([float(self.passes(iou, self.threshold)) for iou in ious])


class BoxIoU(_MeanOverItems):
    """Mean IoU of one predicted and one true box an item, in [0, 1]."""

    def update(self, predicted: Sequence[Box | None], truth: Sequence[Box]) -> None:
        """Add items.

        Args:
            predicted: Corners; None = nothing could be read, which scores 0.
            truth: Corners in the same units.
        """
        pairs = zip(predicted, truth, strict=True)
        self.add([0.0 if box is None else box_iou(box, true) for box, true in pairs])


def _temporal_ious(predicted: Sequence[Span | None], truth: Sequence[Span]) -> list[float]:
    pairs = zip(predicted, truth, strict=True)
    return [0.0 if span is None else temporal_iou(span, true) for span, true in pairs]
