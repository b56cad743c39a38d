"""VISD: token credit from a privileged teacher that replays the student's own tokens."""

from collections.abc import Sequence

from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_vdistill.data.window import WindowTurn
from lit_vdistill.judge.call import JudgeCall
from lit_vdistill.judge.judge import Judge
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.models.sharding import is_sharded
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.method import Kept, TokenMethod
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.replay import CreditConfig, NoReplay, Replay
from lit_vdistill.stages.self_teacher import SelfTeacherModule
from lit_vdistill.stages.step import Experience
from lit_vdistill.stages.validation import ValidationConfig


class VISDModule(SelfTeacherModule):
    """Verifier reward for the direction, privileged teacher for the size (VISD Algorithm 1).

    1. Sample N rollouts of every prompt and score them by the verifier (`sample`, Eq. 10).
    2. Compare each with its siblings: A, the direction (Eq. 14).
    3. While the policy's forward runs, the judge writes feedback on rollouts with A != 0
       (`start_method`).
    4. The EMA teacher reads video, question, answer, evidence and feedback, and replays the
       student's token ids (Eq. 2, `Replay.request`).
    5. Δ on the teacher's top K and the token (Eq. 3-4), m = clip(exp(sign(A) Δ)) (Eq. 5-6).
    6. Credit (1 - λ) + λ m on each token's advantage (Eq. 7), clipped surrogate (Eq. 9).
    7. `EMATeacherUpdate` moves the teacher (Eq. 8), `LambdaAnnealing` lowers λ; at λ = 0 neither
       judge nor teacher is called, the loss is GRPO's to the bit, and the teacher's memory is given
       back (`free_teacher`).
    """

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        credit: CreditConfig = CreditConfig(),
        judge: Judge | None = None,
        loss: PolicyLossConfig = PolicyLossConfig(group_size=4, kl_coef=0.0),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(lr=1e-6, weight_decay=0.01),
    ) -> None:
        """See `OnPolicyModule`.

        Args:
            policy: The network to train; its starting weights are also the teacher's.
            rewards: The verifier's terms with their weights α (Eq. 10).
            credit: How the teacher's view becomes credit.
            judge: Who writes feedback; None = `RuleJudge`.
            loss: The policy-gradient loss; VISD has no KL.
            sampling: How rollouts are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(
            policy, rewards, loss=loss, sampling=sampling, validation=validation, optim=optim
        )
        self.credit_config = credit
        self.let_see(credit.view if credit.mix else None)
        self.credit_mix = credit.mix
        """λ at present."""
        self.judge: Judge = judge or RuleJudge()
        self.has_teacher = credit.mix != 0.0
        self.wants_view = False
        """Whether the next window's replay is to be shown; `TokenCreditView` sets it."""

    def on_train_start(self) -> None:
        """Warn of credit without a bound; see `VLMStage.on_train_start`."""
        super().on_train_start()
        if self.credit_config.mix and self.credit_config.clip is None:
            rank_zero_warn(
                "model.credit.clip is null: nothing bounds a token's weight exp(sign(A) Δ), and a "
                "few tokens may decide a step; VISD clips at 0.2"
            )

    def on_train_batch_start(self, batch: WindowTurn, batch_idx: int) -> None:
        """Free the teacher before the first step at λ = 0, which all processes reach together."""
        super().on_train_batch_start(batch, batch_idx)
        if self.credit_mix == 0.0 and batch.is_first:
            self.free_teacher()

    def start_method(
        self, part: Experience, advantages: Float[Tensor, " rows"], kept: Kept
    ) -> TokenMethod:
        """Ask the judge about rollouts that will move something; nothing to ask at λ = 0."""
        if not kept and (kept is not None or self.credit_mix == 0.0):
            return NoReplay()
        if not kept and self.ema_teacher is None:
            raise RuntimeError(
                f"λ is {self.credit_mix:g} again at step {self.global_step}, but was 0 before, and "
                "the teacher is gone: let the schedule of λ end at 0 once, or keep it above"
            )
        weights = part.row_weights(advantages.device)
        moving = advantages if weights is None else advantages * weights
        told = moving.nonzero()[:, 0].tolist()
        # All processes gather a sharded teacher together; what moves nothing is not judged.
        is_collective = self.ema_teacher is not None and is_sharded(self.ema_teacher)
        active = told or ([0] if is_collective else [])
        replay = Replay(
            self.ema_teacher,
            self.processor,
            self.credit_config,
            lambda: self.credit_mix,
            part,
            advantages,
            active,
        )
        if kept is not None:
            replay.log_ratio = kept["log_ratio"]
            return replay
        cases = [case for i, case in enumerate(self.judge_cases(part)) if i in set(told)]
        has_feedback = self.credit_config.conditioning == "feedback"
        asked = cases if has_feedback else []
        replay.asked = JudgeCall(self.judge, asked, self.credit_config.judge_timeout_s)
        replay.is_viewed = self.wants_view
        return replay
