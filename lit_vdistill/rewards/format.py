"""Format rewards: is the envelope valid, and is the answer written as its task demands."""

from lit_vdistill.responses.grammar import ParsedResponse
from lit_vdistill.rewards.reward import Reward
from lit_vdistill.types import VideoSample


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
        return float(sample.task.has_syntax(response.answer))
