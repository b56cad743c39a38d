"""The options of the policy-gradient loss, in which GRPO and its relatives differ."""

import math
from dataclasses import dataclass

from lit_vdistill.objectives.advantages import AdvantageMethod
from lit_vdistill.objectives.kl import KLEstimator
from lit_vdistill.objectives.mismatch import Mismatch, MismatchLevel
from lit_vdistill.objectives.policy import Ratio, Reduction, Surrogate


@dataclass(frozen=True)
class PolicyLossConfig:
    """The policy-gradient loss."""

    group_size: int = 8
    """Rollouts a prompt, N of R-MSD §4.1.3."""
    advantage: AdvantageMethod = "grpo"
    """Baseline and scale of a group's rewards: grpo, dr_grpo, rloo or reinforce."""
    ratio: Ratio = "token"
    """Probability ratio to the sampler: of each token, or of the whole sequence (GSPO)."""
    surrogate: Surrogate = "clipped"
    """What its bounds do: clipped takes the gradient from tokens beyond them (GRPO), truncated
    leaves them the bound as weight (CISPO)."""
    clip_low: float = 0.2
    """The ratio counts down to 1 less this; inert with one update a window."""
    clip_high: float = 0.2
    """The ratio counts up to 1 and this."""
    reduction: Reduction = "sequence_mean"
    """Average over tokens: sequence_mean (GRPO), token_mean (DAPO), or token_sum_over_limit, over
    as many as all sequences might have had (Dr.GRPO)."""
    kl_coef: float = 1e-3
    """Weight of the KL to the starting policy, γ of R-MSD Eq. 8; 0 keeps no reference."""
    kl_estimator: KLEstimator = "k3"
    """Estimator of that KL: k1, k2 or k3."""
    updates_per_rollout: int = 1
    """Optimizer steps on one window of rollouts; beyond 1 the sampler's log-probabilities are the
    old ones and clipping acts."""
    resample_no_signal: int = 0
    """Replace groups whose rule rewards are all equal by groups of further prompts, at most this
    many windows of them a step (DAPO, arXiv:2503.14476); what is still without signal weighs 0."""
    mismatch: Mismatch = "none"
    """What is done about rollouts that another engine has drawn, by its rounding and older weights:
    weigh tokens by the policy's probability over the sampler's, at most `mismatch_cap` (truncate),
    or drop what is beyond (mask)."""
    mismatch_level: MismatchLevel = "token"
    """Ratio of each token, or of its whole sequence."""
    mismatch_cap: float = 2.0
    """Largest ratio that counts as it is."""

    def __post_init__(self) -> None:
        """Refuse a bound that none can keep.

        Raises:
            ValueError: Names the value.
        """
        if not 1.0 <= self.mismatch_cap < math.inf:
            raise ValueError(
                f"loss.mismatch_cap is {self.mismatch_cap}, expected a number from 1 on"
            )
