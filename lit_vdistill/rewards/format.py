"""Format rewards: is the envelope valid, and is the answer written as its task demands."""

from lit_vdistill.responses import grammar
from lit_vdistill.responses.grammar import ParsedResponse
from lit_vdistill.rewards.reward import Reward
from lit_vdistill.types import Task, VideoSample


class OuterFormat(Reward):
    """1 for exactly one think block followed by exactly one answer block, else 0 (R_outer, Eq. 6).

    Stricter than R-MSD's "contains valid tags": a repeated block or text outside scores 0, as a
    policy that is paid for tags alone learns to repeat them.
    """

    name = "outer"

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score a response; the sample does not matter."""
        return float(response.problem is None)


class TaskFormat(Reward):
    """1 when the answer has the syntax of its task, else 0 (R_task, R-MSD Eq. 6)."""

    name = "task"

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score the answer's syntax, right or wrong."""
        return float(has_task_syntax(response.answer, sample.task))


def has_task_syntax(answer: str, task: Task) -> bool:
    """Whether an answer is written as its task demands: letter, yes or no, number, span, box, text.

    A temporal multiple-choice answer needs its span and its option. Free text must not be empty.
    """
    match task:
        case Task.MCQ:
            return grammar.option_letter(answer) is not None
        case Task.BINARY:
            return grammar.yes_or_no(answer) is not None
        case Task.NUMERICAL:
            return grammar.number(answer) is not None
        case Task.TEMPORAL_GROUNDING:
            return grammar.time_span(answer) is not None
        case Task.TEMPORAL_MCQ:
            return None not in (grammar.time_span(answer), grammar.correct_option(answer))
        case Task.SPATIAL_GROUNDING:
            return grammar.first_box(answer) is not None
        case Task.OCR | Task.SPATIO_TEMPORAL_QA | Task.OPEN_ENDED:
            return bool(answer)
