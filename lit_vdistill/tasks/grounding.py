"""Tasks that are answered with a segment of the video or with a box."""

from collections.abc import Iterable

from lit_vdistill.responses import grammar
from lit_vdistill.responses.geometry import box_iou, temporal_iou
from lit_vdistill.responses.writing import TIMES, tagged_box, tagged_span
from lit_vdistill.tasks.closed import check_letter
from lit_vdistill.tasks.marks import letters
from lit_vdistill.types import Mark, Task, VideoSample


class TemporalGrounding(Task):
    """When something happens; the truth is a segment."""

    name = "temporal_grounding"
    instruction = (
        TIMES + " Find the exact period and answer in the form From <t>start</t>s to <t>end</t>s."
    )
    judged_by = (
        "the segment first: too early, too late, too long or too short, and roughly how much of it "
        "overlaps; then why the reasoning led there"
    )
    answers_span = True
    answers_words = False

    def true_answer(self, sample: VideoSample) -> str:
        """The true segment."""
        return f"From {tagged_span(sample.evidence.spans[0])}"

    def has_syntax(self, answer: str) -> bool:
        """A segment stands in it."""
        return grammar.time_span(answer) is not None

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """Temporal IoU."""
        return _overlap(answer, sample)


class TemporalMcq(Task):
    """When something happens, and which option is right; the truth is a segment and a letter."""

    name = "temporal_mcq"
    instruction = (
        TIMES + " Find the exact period and the right option, and answer in the form "
        "From <t>start</t>s to <t>end</t>s.\nCorrect Option: letter"
    )
    judged_by = "the letter, and the segment that is to support it; both must be right"
    answers_span = True

    def check(self, sample: VideoSample) -> None:
        """The letter of an option, and a segment."""
        check_letter(sample)
        super().check(sample)

    def true_answer(self, sample: VideoSample) -> str:
        """Segment and letter, a line each."""
        span = tagged_span(sample.evidence.spans[0])
        return f"From {span}\n{grammar.OPTION_MARKER} {sample.answer}"

    def has_syntax(self, answer: str) -> bool:
        """Both must be there."""
        return None not in (grammar.time_span(answer), grammar.correct_option(answer))

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """The mean of both halves, which keeps q in [0, 1]: the papers name no joint metric."""
        return (self.words_quality(answer, sample) + _overlap(answer, sample)) / 2

    def words_quality(self, answer: str, sample: VideoSample) -> float:
        """Whether the letter is right."""
        return float(grammar.correct_option(answer) == sample.answer)

    def answer_marks(
        self, text: str, place: tuple[int, int], sample: VideoSample, epsilon: float
    ) -> Iterable[Mark]:
        """The letter behind its marker."""
        start, end = place
        marker = text.find(grammar.OPTION_MARKER, start, end)
        behind = marker + len(grammar.OPTION_MARKER) if marker >= 0 else start
        return letters(text, (behind, end), sample.answer)


class SpatialGrounding(Task):
    """Where something is; the truth is a box."""

    name = "spatial_grounding"
    instruction = (
        "Locate the objects of the reasoning with <box></box>. Answer in the form "
        "<obj>name</obj><box>[x1,y1,x2,y2]</box>."
    )
    judged_by = "whether the object is the one that is meant, and whether its box can be right"
    answers_box = True
    answers_words = False

    def true_answer(self, sample: VideoSample) -> str:
        """The true box with its name."""
        return tagged_box(sample.evidence.boxes[0])

    def has_syntax(self, answer: str) -> bool:
        """A box stands in it."""
        return grammar.first_box(answer) is not None

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """IoU of the first box; its name does not matter."""
        said = grammar.first_box(answer)
        return 0.0 if said is None else box_iou(said, sample.evidence.boxes[0].box)


def _overlap(answer: str, sample: VideoSample) -> float:
    said = grammar.time_span(answer)
    return 0.0 if said is None else temporal_iou(said, sample.evidence.spans[0])
