"""torchmetrics for grounding and grouped scores: what is averaged, and over what, in one place."""

from lit_vdistill.metrics.grounding import BoxIoU, TemporalIoU, TemporalRecall
from lit_vdistill.metrics.grouped import GroupedMean

__all__ = ["BoxIoU", "GroupedMean", "TemporalIoU", "TemporalRecall"]
