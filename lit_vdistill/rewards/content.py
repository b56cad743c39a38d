"""Correctness of a closed-ended answer: R_content of a rollout, q_k of a teacher response."""

from typing import TypeVar

from torchmetrics.functional.text import word_error_rate

from lit_vdistill.responses import grammar
from lit_vdistill.responses.geometry import box_iou, temporal_iou
from lit_vdistill.responses.grammar import ParsedResponse
from lit_vdistill.rewards.format import has_task_syntax
from lit_vdistill.rewards.reward import Reward
from lit_vdistill.tasks.closed import epsilon_accuracy
from lit_vdistill.types import Task, VideoSample

_T = TypeVar("_T")


class Content(Reward):
    """R_content of R-MSD Eq. 6: `answer_quality` for closed-ended tasks, 0 for open-ended ones."""

    name = "content"

    def __init__(self, weight: float = 1.0, epsilon: float = 0.01, name: str | None = None) -> None:
        """Remember weight and tolerance.

        Args:
            weight: Factor in the composite reward (δ of Eq. 6).
            epsilon: Relative tolerance of numerical answers.
            name: A name of its own.
        """
        super().__init__(weight, name)
        self.epsilon = epsilon

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score a response against the sample's answer."""
        if not sample.task.is_closed_ended:
            return 0.0
        return answer_quality(response, sample, epsilon=self.epsilon)


def answer_quality(response: ParsedResponse, sample: VideoSample, epsilon: float = 0.01) -> float:
    """Format validity times the metric of the task, q_k of R-MSD Eq. 2.

    An invalid envelope or an answer without its task's syntax scores 0.

    Args:
        response: The parsed response.
        sample: A closed-ended sample whose boxes are in the units the model writes.
        epsilon: Relative tolerance of numerical answers.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: For an open-ended task, which has no metric (R-MSD §3.3.2).
    """
    if not sample.task.is_closed_ended:
        raise ValueError(
            f"sample {sample.id}: task '{sample.task}' is open-ended, it has no metric"
        )
    if response.problem is not None or not has_task_syntax(response.answer, sample.task):
        return 0.0
    return _metric(response.answer, sample, epsilon)


def _metric(answer: str, sample: VideoSample, epsilon: float) -> float:
    """The task's metric of an answer whose syntax is valid."""
    match sample.task:
        case Task.MCQ:
            return float(grammar.option_letter(answer) == sample.answer)
        case Task.BINARY:
            return float(grammar.yes_or_no(answer) == sample.answer.lower())
        case Task.NUMERICAL:
            return epsilon_accuracy(_given(grammar.number(answer)), float(sample.answer), epsilon)
        case Task.OCR:
            return max(0.0, 1.0 - float(word_error_rate([answer], [sample.answer])))
        case Task.TEMPORAL_GROUNDING:
            return temporal_iou(_given(grammar.time_span(answer)), sample.evidence.spans[0])
        case Task.TEMPORAL_MCQ:
            # The papers name no joint metric: the mean of both halves keeps q in [0, 1].
            is_right = grammar.correct_option(answer) == sample.answer
            overlap = temporal_iou(_given(grammar.time_span(answer)), sample.evidence.spans[0])
            return (float(is_right) + overlap) / 2
        case Task.SPATIAL_GROUNDING:
            return box_iou(_given(grammar.first_box(answer)), sample.evidence.boxes[0].box)
        case Task.SPATIO_TEMPORAL_QA | Task.OPEN_ENDED:
            raise AssertionError("answer_quality refuses open-ended tasks")


def _given(value: _T | None) -> _T:
    assert value is not None, "the syntax was checked before"
    return value
