"""Overlap of time spans and of boxes: defined once, used by rewards, quality and metrics."""

import math

from lit_vdistill.types import Box, Span


def temporal_iou(predicted: Span, truth: Span) -> float:
    """Intersection over union of two closed time spans, in seconds.

    An inverted or an empty prediction scores 0, and so does a pair without extent, or one with a
    number that is not finite; nothing raises.
    For spans that do not touch, the union counted is the hull, which changes nothing as the
    intersection is 0 (V-STaR and Time-R1 do the same).
    """
    if predicted[1] < predicted[0] or not _are_finite(*predicted, *truth):
        return 0.0
    intersection = min(predicted[1], truth[1]) - max(predicted[0], truth[0])
    hull = max(predicted[1], truth[1]) - min(predicted[0], truth[0])
    return max(0.0, intersection) / hull if hull > 0 else 0.0


def box_iou(predicted: Box, truth: Box) -> float:
    """Intersection over union of two `(x1, y1, x2, y2)` boxes in the same units.

    Inverted boxes score 0, as does a corner that is not finite; coordinates are neither clipped nor
    reordered.
    """
    if not _are_finite(*predicted, *truth):
        return 0.0
    width = min(predicted[2], truth[2]) - max(predicted[0], truth[0])
    height = min(predicted[3], truth[3]) - max(predicted[1], truth[1])
    areas = [(box[2] - box[0], box[3] - box[1]) for box in (predicted, truth)]
    if width <= 0 or height <= 0 or any(side <= 0 for sides in areas for side in sides):
        return 0.0
    intersection = width * height
    return intersection / (sum(w * h for w, h in areas) - intersection)


def _are_finite(*numbers: float) -> bool:
    return all(map(math.isfinite, numbers))
