"""What a response's length is worth."""

from lit_vdistill.responses.grammar import ParsedResponse
from lit_vdistill.rewards.reward import Reward
from lit_vdistill.types import VideoSample


class NotOverlong(Reward):
    """1 for a response that ends well before the limit, and less the closer it comes, to 0 at it.

    DAPO's soft punishment (arXiv:2503.14476, Eq. 13) is this less 1. A reward is a share in [0, 1]
    here, and where a rollout is compared with its siblings the constant cancels: in every advantage
    but `reinforce`. It says nothing about what stands in the response, so it is one among others.
    """

    name = "not_overlong"

    def __init__(
        self, weight: float = 1.0, name: str | None = None, *, limit: int, margin: float = 0.2
    ) -> None:
        """Remember the lengths.

        Args:
            weight: Factor in the composite reward.
            name: A name of its own, where two rewards of one class stand in a list.
            limit: Tokens at which nothing is paid, `sampling.max_completion_tokens`.
            margin: Share of the limit before it in which pay falls; DAPO's is 4 096 of 20 480.

        Raises:
            ValueError: For a limit without a token, or a margin outside ]0, 1].
        """
        super().__init__(weight, name)
        if limit < 1 or not 0.0 < margin <= 1.0:
            raise ValueError(
                f"NotOverlong needs limit >= 1 and margin in ]0, 1], got {limit} and {margin}"
            )
        self.limit, self.margin = limit, margin

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score the number of tokens, the end of the turn included; a teacher's text has all."""
        rollout = response.rollout
        if rollout is None:
            return 1.0
        if rollout.is_truncated:
            return 0.0
        left = self.limit - len(rollout.completion_ids)
        return min(max(left / (self.margin * self.limit), 0.0), 1.0)
