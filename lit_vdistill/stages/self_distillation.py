"""Self-distillation: the student learns what it would say if it had been told more."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lit_vdistill.judge.call import JudgeCall
from lit_vdistill.judge.judge import Judge
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.responses.prompts import Conditioning, Telling
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.distillation import Distillation, DistillConfig, Reading
from lit_vdistill.stages.method import Kept, TokenMethod
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.replay import replay_rows
from lit_vdistill.stages.self_teacher import SelfTeacherModule
from lit_vdistill.stages.step import Experience
from lit_vdistill.stages.validation import ValidationConfig


@dataclass(frozen=True)
class SelfDistillConfig(DistillConfig, Telling):
    """What a token learns from the privileged self, and what that is told."""

    conditioning: Conditioning = "evidence"
    """How much it is told: `none`, the `answer`, its `evidence` too (OPSD), `feedback` (SDPO)."""
    judge_timeout_s: float = 120.0
    """Seconds in which the judge must answer; later it has failed on all it was asked."""


class SelfDistillationModule(SelfTeacherModule):
    """OPSD (arXiv:2601.18734) and, with feedback and the reward, SDPO (arXiv:2601.20802).

    1. Sample N rollouts of every prompt from the student (`sample`); no gradient goes there.
    2. With `feedback`, a judge writes some during the policy's forward (`start_method`).
    3. The privileged self reads video, question, what it is told, and the same token ids, as VISD's
       teacher does (`replay_rows`).
    4. A token's loss: `coef` x divergence + `reward_weight` x GRPO's (`Distillation.terms`).
    5. `EMATeacherUpdate` moves the teacher (SDPO); without it, it stays the start (OPSD).

    SDPO shows a rollout a better sibling; here it is told the true answer, as in VISD. Its top K
    are the student's, here the teacher's.
    """

    is_strictly_on_policy = True

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        distill: SelfDistillConfig = SelfDistillConfig(),
        judge: Judge | None = None,
        loss: PolicyLossConfig = PolicyLossConfig(group_size=4, kl_coef=0.0),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `OnPolicyModule`.

        Args:
            policy: The network to train; its starting weights are also the teacher's.
            rewards: Rule rewards, weighted; paid where `distill.reward_weight` says so.
            distill: What a token learns from the privileged self, and what that is told.
            judge: Who writes feedback; None = `RuleJudge`.
            loss: The policy-gradient loss.
            sampling: How rollouts are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(
            policy, rewards, loss=loss, sampling=sampling, validation=validation, optim=optim
        )
        self.distill, self.judge = distill, judge or RuleJudge()
        self.let_see(distill.view if distill.coef else None)
        self.has_teacher = distill.coef != 0.0

    def start_method(self, part: Experience, advantages: Tensor, kept: Kept) -> TokenMethod:
        """Ask the judge about all rollouts that count, and let the teacher read all."""
        if self.ema_teacher is None:
            return Distillation(None, self.distill, None)
        metrics, how, rows = self.metrics, self.distill, range(len(part.rollouts))
        counts = [w for w in part.group_weights for _ in part.groups[0].rollouts]
        counted = [i for i in rows if counts[i] and how.conditioning == "feedback"]
        cases = self.judge_cases(part) if counted else []
        asked = JudgeCall(self.judge, [cases[i] for i in counted], self.distill.judge_timeout_s)
        heard: dict[int, str] = {}

        def read() -> Reading:
            said = dict(zip(counted, asked.result(), strict=True))
            if said:
                failed = list(said.values()).count(None)
                metrics.add("judge/failures", float(failed), float(len(said)))
            heard.update({i: words for i, words in said.items() if words is not None})
            told, own = [said.get(i) for i in rows], self.has_other_tower
            return replay_rows(self.processor, part, rows, told, how, own_look=own)

        return Distillation(self.ema_teacher, self.distill, read, heard)
