"""What the boxes of a pool count to, told from the truth: a teacher's units are its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

from lit_vdistill.responses.geometry import box_iou
from lit_vdistill.responses.grammar import first_box, parse_response
from lit_vdistill.types import Box, TeacherResponse, VideoSample

_FEWEST = 10
"""Boxes; below it chance would decide."""
_ENOUGH = 500
"""Samples with boxes that are looked at, from everywhere in the records."""
_FROM_SHARE = 0.1
"""Corners nearer to the left or upper edge say little about the unit."""
_IOU, _BETTER = 0.3, 3.0
"""A scale is another's where boxes meet the truth this well by it, and this much better."""


@dataclass(frozen=True, slots=True)
class BoxScale:
    """How the boxes of a pool's answers lie to the truth."""

    count: int
    """Boxes."""
    edges: tuple[float, float]
    """What most of them seem to have at the right and at the lower edge; thousandths: 1000 both."""
    iou: float
    """Mean overlap with the truth, as thousandths."""
    iou_by_edges: float
    """The same, as shares of `edges`."""

    @property
    def is_another(self) -> bool:
        """Whether they are no thousandths."""
        return self.iou_by_edges > max(_IOU, _BETTER * self.iou)

    def __str__(self) -> str:
        """As a line."""
        x, y = (f"{edge:.0f}" if edge > 10 else f"{edge:.2g}" for edge in self.edges)
        return (
            f"{self.count} boxes count to about {x} across and {y} down: mean IoU with the truth "
            f"{self.iou:.2f} as thousandths, {self.iou_by_edges:.2f} by those edges"
        )


def box_scale(
    samples: Sequence[VideoSample], pools: Mapping[str, Sequence[TeacherResponse]]
) -> BoxScale | None:
    """The scale of the boxes that closed questions are answered with.

    Args:
        samples: Records, whose boxes are shares of width and height.
        pools: Responses by sample id, as a teacher wrote them.

    Returns:
        None with too few boxes to say.
    """
    asked = [s for s in samples if s.task.answers_box and s.evidence.boxes and pools.get(s.id)]
    pairs = [
        pair for sample in asked[:: len(asked) // _ENOUGH + 1] for pair in _pairs(sample, pools)
    ]
    across, down = (
        [box[corner] / truth[corner] for box, truth in pairs if truth[corner] > _FROM_SHARE]
        for corner in (2, 3)
    )
    if min(len(across), len(down)) < _FEWEST:
        return None
    edges = median(across), median(down)
    return BoxScale(len(pairs), edges, _mean_iou(pairs, (1000.0, 1000.0)), _mean_iou(pairs, edges))


def check_box_scale(
    samples: Sequence[VideoSample],
    pools: Mapping[str, Sequence[TeacherResponse]],
    path: str | None,
) -> None:
    """Refuse a pool of a student that writes thousandths, whose boxes count otherwise.

    Raises:
        ValueError: With the scale that they seem to have.
    """
    scale = box_scale(samples, pools)
    if scale is not None and scale.is_another:
        raise ValueError(
            f"teacher pool {path}: expected boxes in thousandths of width and height "
            f"(data.prompt.box_units), but its {scale}. Ask the teacher for thousandths, or "
            "multiply its corners by 1000 over the width and the height that they count; where the "
            "stage draws from no pool, name none (data.sources.pool_path null)"
        )


def _pairs(
    sample: VideoSample, pools: Mapping[str, Sequence[TeacherResponse]]
) -> Iterator[tuple[Box, Box]]:
    truth = sample.evidence.boxes[0].box
    for response in pools[sample.id]:
        box = first_box(parse_response(response.text).answer)
        if box is not None:
            yield box, truth


def _mean_iou(pairs: Sequence[tuple[Box, Box]], edges: tuple[float, float]) -> float:
    x, y = edges
    if min(edges) <= 0.0:
        return 0.0
    return mean(
        box_iou((box[0] / x, box[1] / y, box[2] / x, box[3] / y), truth) for box, truth in pairs
    )
