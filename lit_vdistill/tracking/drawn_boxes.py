"""Which boxes of a question and its response are drawn, and on which frames."""

from collections.abc import Sequence

from lit_vdistill.responses.grammar import ParsedResponse, all_boxes, grounded_mentions
from lit_vdistill.types import BoxAt


def predicted_boxes(response: ParsedResponse, annotated: Sequence[BoxAt]) -> list[BoxAt]:
    """The boxes of a response; an answer's, which have no time, at that of the first true one.

    Args:
        response: Taken apart.
        annotated: The true boxes of its question.
    """
    mentions = grounded_mentions(response.think)
    named = [BoxAt(found.time_s, found.name, box) for found in mentions for box in found.boxes]
    at = annotated[0].time_s if annotated else None
    return [*named, *(BoxAt(at, "answer", box) for box in all_boxes(response.answer))]


def nearest_frame(box: BoxAt, times_s: Sequence[float]) -> int:
    """Place of the frame nearest in time to a box; of the first for a box without a time."""
    at = 0.0 if box.time_s is None else box.time_s
    return min(range(len(times_s)), key=lambda place: abs(times_s[place] - at))
