"""The one place where a method decides what each token of a rollout learns.

A method sees what the policy's own forward says about the tokens of a piece, and answers with
factors on their advantages, with a loss of its own a token, or with both. `README.md` beside this
file says how to add one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor

from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.logprobs import HeadRequest, TokenScores
from lit_vdistill.stages.averages import StepMetrics

Kept = Mapping[str, Tensor] | None
"""What a method's `state` was when a run stopped between two updates of a window."""


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """What each token of a piece learns."""

    factors: Float[Tensor, "rows seq"] | None = None
    """On the token's advantage; no gradient. None = 1."""
    losses: Float[Tensor, "rows seq"] | None = None
    """Added to the token's policy loss, with its gradient. None = 0."""


class TokenMethod:
    """A method's view of one piece; as it stands, every token has its rollout's advantage.

    Made before the policy's forward pass, so that slow work may run beside it. It lives as long as
    the window: at later updates `request` and `terms` are called again, with the policy's new
    scores. What must not change in between it keeps itself, and names in `state`.
    """

    feedback: Mapping[int, str] = MappingProxyType({})
    """What a judge has said, by row of the piece; none is known to a run that goes on from between
    two updates of a window."""

    def request(self, states: CompletionStates) -> HeadRequest:
        """What `terms` needs from the policy's head beside log-probabilities and entropies."""
        return HeadRequest()

    def terms(self, scores: TokenScores, metrics: StepMetrics) -> TokenTerms:
        """What each token learns.

        Args:
            scores: The policy's own, with their graph.
            metrics: Takes what is to be logged.
        """
        return TokenTerms()

    def state(self) -> dict[str, Tensor]:
        """What a later update of the window needs again; saved in a checkpoint between the two."""
        return {}
