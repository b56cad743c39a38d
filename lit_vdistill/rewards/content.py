"""Correctness of a closed-ended answer: R_content of a rollout, q_k of a teacher response."""

from lit_vdistill.responses.grammar import ParsedResponse
from lit_vdistill.rewards.reward import Reward
from lit_vdistill.types import VideoSample

_ROUNDING = 1e-9


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

    def applies_to(self, sample: VideoSample) -> bool:
        """Closed-ended tasks."""
        return sample.task.is_closed_ended

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score a response against the sample's answer."""
        if not self.applies_to(sample):
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
        ValueError: See `answer_metric`.
    """
    found = answer_metric(response.answer, sample, epsilon)
    return 0.0 if response.problem is not None else found


def answer_metric(answer: str, sample: VideoSample, epsilon: float = 0.01) -> float:
    """The metric of the task for the inside of an answer block, whatever stands around it.

    An answer without its task's syntax scores 0.

    Args:
        answer: The inside of the answer block.
        sample: A closed-ended sample whose boxes are in the units the model writes.
        epsilon: Relative tolerance of numerical answers.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: For an open-ended task, which has no metric (R-MSD §3.3.2), and for a task
            whose metric gives no such value.
    """
    if not sample.task.is_closed_ended:
        raise ValueError(
            f"sample {sample.id}: task '{sample.task}' is open-ended, it has no metric"
        )
    if not sample.task.has_syntax(answer):
        return 0.0
    quality = sample.task.quality(answer, sample, epsilon)
    if not 0.0 <= quality <= 1.0 + _ROUNDING:
        raise ValueError(
            f"sample {sample.id}: task '{sample.task}' must give a quality in [0, 1], got {quality}"
        )
    return quality
