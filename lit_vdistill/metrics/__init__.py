"""torchmetrics for grounding and grouped scores: what is averaged, and over what, in one place."""

from lit_vdistill.metrics.grounding import BoxIoU, TemporalIoU, TemporalRecall
from lit_vdistill.metrics.grouped import GroupedMean
from lit_vdistill.metrics.vstar import ChainAnswer, VStar, VStarItem

__all__ = [
    "BoxIoU",
    "ChainAnswer",
    "GroupedMean",
    "TemporalIoU",
    "TemporalRecall",
    "VStar",
    "VStarItem",
]
