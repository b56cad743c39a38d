"""What a piece's loss compares the policy with: who has drawn it, and what it was at first."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lit_vdistill.models.logprobs import TokenScores
from lit_vdistill.objectives.mismatch import mismatch_weights
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.policy_loss import PolicyLossConfig


@dataclass(slots=True)
class FirstScores:
    """The policy's log-probabilities of a piece before the window's first update."""

    logprobs: Float[Tensor, "rows seq"] | None = None
    """Kept where later updates need them: None with one update, or where the sampler's stand in."""

    def compared(
        self,
        config: PolicyLossConfig,
        scores: TokenScores,
        sampled: Float[Tensor, "rows seq"],
        metrics: StepMetrics,
    ) -> tuple[Float[Tensor, "rows seq"], Float[Tensor, "rows seq"] | None]:
        """The old policy of the surrogate's ratio, and what each token counts.

        Args:
            config: The loss.
            scores: The policy's at present.
            sampled: The sampler's log-probabilities of the same tokens.
            metrics: Takes how much the weights have changed.

        Returns:
            Log-probabilities, and weights of the sampler's mismatch; None = 1.
        """
        is_corrected = config.mismatch != "none"
        if config.updates_per_rollout == 1:
            # On policy the ratio is 1; which rounding the sampler had must not enter.
            old = scores.logprobs.detach()
        elif not is_corrected:
            old = sampled
        else:
            if self.logprobs is None:
                self.logprobs = scores.logprobs.detach()
            old = self.logprobs
        if not is_corrected:
            return old, None
        weights, is_beyond = mismatch_weights(
            old, sampled, scores.mask,
            kind=config.mismatch, level=config.mismatch_level, cap=config.mismatch_cap,
        )  # fmt: skip
        metrics.add_mean("mismatch/weight", weights[scores.mask])
        metrics.add_mean("mismatch/capped", is_beyond[scores.mask].float())
        return old, weights
