"""Tasks that are answered with the boxes of something that moves."""

from lit_vdistill.responses.geometry import box_iou
from lit_vdistill.responses.tracks import boxes_by_second
from lit_vdistill.responses.writing import tagged_box, tagged_time
from lit_vdistill.types import Task, VideoSample


class SpatioTemporalGrounding(Task):
    """Where something is at given seconds; the truth is its box at each of them (V-STaR)."""

    name = "spatio_temporal_grounding"
    instruction = (
        "Answer with a line for each second, in the form "
        "<obj>name</obj><box>[x1,y1,x2,y2]</box>at<t>second</t>s."
    )
    judged_by = "whether the object is the one that is meant, and is followed through all seconds"
    answers_track = True

    def check(self, sample: VideoSample) -> None:
        """Boxes, each at a whole second."""
        super().check(sample)
        times = [found.time_s for found in sample.evidence.boxes]
        if not all(time is not None and float(time).is_integer() for time in times):
            raise ValueError(f"'evidence.boxes' must be at whole seconds, got {times!r:.80}")

    def true_answer(self, sample: VideoSample) -> str:
        """The true boxes, a line each."""
        return "\n".join(
            f"{tagged_box(found)}at{tagged_time(found.time_s)}"
            for found in sample.evidence.boxes
            if found.time_s is not None
        )

    def has_syntax(self, answer: str) -> bool:
        """A box with its second stands in it, in either way of writing."""
        return bool(boxes_by_second(answer))

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """Mean over the true boxes of the best IoU at their second; 0 for a second without one."""
        said, boxes = boxes_by_second(answer), sample.evidence.boxes
        found = [
            max((box_iou(box, true.box) for box in said.get(int(true.time_s), ())), default=0.0)
            for true in boxes
            if true.time_s is not None
        ]
        return sum(found) / len(boxes)
