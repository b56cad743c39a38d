"""V-STaR, one item: what its answer and its two chains of reasoning are worth.

Chain 1 asks what, when, where; chain 2 what, where, when; both share the answer. Pure, so that the
torchmetric (`vstar.py`) and tools that score without torch have one definition.
"""

import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lit_vdistill.responses.geometry import box_iou, temporal_iou
from lit_vdistill.types import Box, Span

RIGHT_FROM = 2
"""The least rating that counts as right."""
HIGHEST = 3
CHAINS = (1, 2)
TIME_THRESHOLDS = (0.3, 0.5, 0.7)
SPACE_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
DURATIONS = {"short": (0.0, 60.0), "medium": (60.0, 180.0), "long": (180.0, math.inf)}
"""Seconds, lower end included."""
_LARGEST = 1.0 - 1e-6
Passes = Callable[[float, float], bool]
"""Whether an IoU is enough for a threshold: `operator.ge` as officially, or `operator.gt`."""


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


def item_scores(item: VStarItem, passes: Passes = operator.ge) -> dict[str, float]:
    """All scores of an item, in [0, 1]: 0 throughout without an answer.

    Raises:
        ValueError: For a truth that is not finite.
    """
    truth = [*item.span, *(corner for _, box in item.boxes for corner in box)]
    if not all(map(math.isfinite, truth)):
        raise ValueError(f"V-STaR: a true segment or box is not finite: {truth}")
    scores = {"acc": float(is_right(item.rating))}
    for chain, answer in zip(CHAINS, item.chains, strict=True):
        scores |= when_scores(answer.span, item.span, chain, passes)
        scores |= where_scores(answer.boxes, item.boxes, chain, passes)
    scores |= joint_scores(scores, passes)
    return scores if item.has_answer else dict.fromkeys(scores, 0.0)


def is_right(rating: int | None) -> bool:
    """Whether a rating says that an answer is right; one out of its range says nothing."""
    return rating is not None and RIGHT_FROM <= rating <= HIGHEST


def when_scores(
    said: Span | None, truth: Span, chain: int, passes: Passes = operator.ge
) -> dict[str, float]:
    """`tIoU` and `R@m` of a chain.

    Args:
        said: Seconds; None = nothing could be read.
        truth: Seconds.
        chain: 1 or 2.
        passes: What a threshold asks for.
    """
    iou = 0.0 if said is None else temporal_iou(said, truth)
    recalls = {f"R@{m}_{chain}": float(passes(iou, m)) for m in TIME_THRESHOLDS}
    return {f"tIoU_{chain}": iou, **recalls}


def where_scores(
    said: Mapping[int, Sequence[Box]],
    truth: Sequence[tuple[int, Box]],
    chain: int,
    passes: Passes = operator.ge,
) -> dict[str, float]:
    """`vIoU` and `AP@m` of a chain: means over the true boxes of the best IoU at their second.

    Args:
        said: Boxes by whole second.
        truth: Each with its whole second; what is said at other seconds does not count.
        chain: 1 or 2.
        passes: What a threshold asks for.
    """
    ious = [
        max((box_iou(box, true) for box in said.get(second, ())), default=0.0)
        for second, true in truth
    ]
    count = max(1, len(ious))
    precisions = {
        f"AP@{m}_{chain}": sum(passes(iou, m) for iou in ious) / count for m in SPACE_THRESHOLDS
    }
    return {f"vIoU_{chain}": sum(ious) / count, **precisions}


def joint_scores(scores: Mapping[str, float], passes: Passes = operator.ge) -> dict[str, float]:
    """In which ways at once an item is right.

    Args:
        scores: `acc`, and of both chains `tIoU` and `vIoU`.
        passes: What the lowest thresholds of time and space ask for.
    """
    joint: dict[str, float] = {}
    for chain in CHAINS:
        what = scores["acc"] > 0
        when = passes(scores[f"tIoU_{chain}"], TIME_THRESHOLDS[0])
        where = passes(scores[f"vIoU_{chain}"], SPACE_THRESHOLDS[0])
        ways = {
            "what_when": what and when,
            "what_where": what and where,
            "when_where": when and where,
            "all": what and when and where,
        }
        joint |= {f"joint/{way}_{chain}": float(is_met) for way, is_met in ways.items()}
    return joint


def is_about_all(score: str) -> bool:
    """Whether the official mean of a score is over all items, also over those without an answer."""
    return score == "acc" or (score.startswith("joint/") and "when_where" not in score)


def overall(means: Mapping[str, float]) -> dict[str, float]:
    """`AM` and `LGM` of both chains, `mAM` and `mLGM`, of means over a set of items.

    Args:
        means: `acc`, and of both chains `tIoU` and `vIoU`.
    """
    result: dict[str, float] = {}
    for chain in CHAINS:
        parts = means["acc"], means[f"tIoU_{chain}"], means[f"vIoU_{chain}"]
        result[f"AM_{chain}"] = arithmetic_mean(*parts)
        result[f"LGM_{chain}"] = log_geometric_mean(*parts)
    result["mAM"] = (result["AM_1"] + result["AM_2"]) / 2
    result["mLGM"] = (result["LGM_1"] + result["LGM_2"]) / 2
    return result


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
