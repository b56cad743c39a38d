"""A control of token credit: more for improbable tokens, and no teacher at all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_vdistill.models.logprobs import TokenScores
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.credit import mixed_credit
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.method import Kept, TokenMethod, TokenTerms
from lit_vdistill.stages.on_policy import OnPolicyModule
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.step import Experience
from lit_vdistill.stages.validation import ValidationConfig


@dataclass(frozen=True)
class ImprobableConfig:
    """Which tokens have more of the credit, and how much."""

    mix: float = 0.5
    """λ of VISD Eq. 7; `LambdaAnnealing` lowers it."""
    clip: float = 0.2
    """ε_w of VISD Eq. 6, all of which an improbable token gets: it weighs 1 + it."""
    below: float = 0.5
    """A token is improbable whose probability under the policy is below it."""

    def __post_init__(self) -> None:
        """Refuse what is no share of a weight or no probability.

        Raises:
            ValueError: Names the key.
        """
        if not 0.0 <= self.clip < math.inf:
            raise ValueError(f"improbable.clip {self.clip}: expected 0 or more")
        if not 0.0 < self.below <= 1.0:
            raise ValueError(f"improbable.below {self.below}: expected 0 < below <= 1")


class ImprobableTokens(TokenMethod):
    """1 + λ ε on the advantage of tokens that the policy found improbable, 1 on all others."""

    def __init__(self, config: ImprobableConfig, mix: float) -> None:
        """Set up; `mix` is λ at present."""
        self.config, self.mix = config, mix

    def terms(self, scores: TokenScores, metrics: StepMetrics) -> TokenTerms:
        """Factors by the policy's own probabilities; none at λ = 0."""
        metrics.add("credit/lambda", self.mix, 1.0)
        if not self.mix:
            return TokenTerms()
        is_improbable = (scores.logprobs.detach().exp() < self.config.below) & scores.mask
        metrics.add_mean("credit/improbable", is_improbable[scores.mask].float())
        return TokenTerms(factors=mixed_credit(1.0 + self.config.clip * is_improbable, self.mix))


class ImprobableTokensModule(OnPolicyModule):
    """VISD's step with a constant weight on improbable tokens in the teacher's place.

    arXiv:2608.31046 finds that such a weight does as well as a self-teacher. What is known to us of
    it is that sentence: bounds and annealing are VISD's, the probability that divides tokens is
    ours.

    1. Sample N rollouts of every prompt and score them by the verifier, as VISD does.
    2. Compare each with its siblings: A (VISD Eq. 14).
    3. A token below a probability has 1 + λ ε of A, the others have A (`ImprobableTokens.terms`).
    4. `LambdaAnnealing` lowers λ.
    """

    is_strictly_on_policy = True

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        improbable: ImprobableConfig = ImprobableConfig(),
        loss: PolicyLossConfig = PolicyLossConfig(group_size=4, kl_coef=0.0),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(lr=1e-6, weight_decay=0.01),
    ) -> None:
        """See `OnPolicyModule`.

        Args:
            policy: The network to train.
            rewards: The verifier's terms with their weights.
            improbable: Which tokens have more of the credit.
            loss: The policy-gradient loss.
            sampling: How rollouts are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(
            policy, rewards, loss=loss, sampling=sampling, validation=validation, optim=optim
        )
        self.credit_config = improbable
        self.credit_mix = improbable.mix
        """λ at present."""

    def start_method(self, part: Experience, advantages: Tensor, kept: Kept) -> TokenMethod:
        """The same for every piece."""
        return ImprobableTokens(self.credit_config, self.credit_mix)
