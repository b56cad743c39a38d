"""VISD: token credit from a privileged teacher that replays the student's own tokens."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from lit_vdistill.judge.judge import Judge, JudgeCase
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.models.ema import EMAWeights
from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import TokenScores, completion_logprobs
from lit_vdistill.models.prompt import split_prompt
from lit_vdistill.models.tokens import plain_ids
from lit_vdistill.models.vlm import VLMConfig, is_zero3_sharded
from lit_vdistill.objectives.credit import (
    local_support,
    mixed_credit,
    sampled_log_ratio,
    support_log_ratio,
    token_weights,
)
from lit_vdistill.responses.prompts import Conditioning, privileged_text
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.on_policy import OnPolicyModule, PolicyLossConfig
from lit_vdistill.stages.step import PendingCredit, SampledStep
from lit_vdistill.stages.vlm_stage import OptimConfig, ValidationConfig

Support = Literal["top_k", "sampled_token"]


@dataclass(frozen=True)
class CreditConfig:
    """How the teacher's view becomes credit for tokens (VISD Table 8)."""

    mix: float = 0.5
    """λ of Eq. 7: share of the credit that the teacher decides; `LambdaAnnealing` lowers it."""
    clip: float = 0.2
    """ε_w of Eq. 6: weights stay within 1 ± it."""
    support: Support = "top_k"
    """Compare on the teacher's `top_k` and the token itself, or by the `sampled_token` alone (the
    whole vocabulary, as RLSD)."""
    top_k: int = 16
    """K of Eq. 3."""
    conditioning: Conditioning = "feedback"
    """What the teacher knows: `none`, the `answer`, with `evidence`, with `feedback` too."""


class VISDModule(OnPolicyModule):
    """Verifier reward for the direction, privileged teacher for the size (VISD Algorithm 1).

    1. Sample N rollouts of every prompt and score them by the verifier (`sample`, Eq. 10).
    2. Compare each with its siblings: A, the direction (Eq. 14).
    3. While the policy's forward runs, the judge writes feedback on rollouts with A != 0
       (`start_credit`).
    4. The EMA teacher reads video, question, answer, evidence and feedback, and replays the
       student's token ids (Eq. 2, `_Replay.chosen_ids`).
    5. Δ on the teacher's top K and the token (Eq. 3-4), m = clip(exp(sign(A) Δ)) (Eq. 5-6).
    6. Credit (1 - λ) + λ m on each token's advantage (Eq. 7), clipped surrogate (Eq. 9).
    7. `EMATeacherUpdate` moves the teacher, `LambdaAnnealing` lowers λ (Eq. 8); at λ = 0 neither
       judge nor teacher is called, and the loss is GRPO's to the bit.
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
        self.credit_mix = credit.mix
        """λ at present."""
        self.judge: Judge = judge or RuleJudge()
        self.ema_teacher: PreTrainedModel | None = None
        self._ema = EMAWeights()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")

    def configure_model(self) -> None:
        """Load the policy, and copy it into the teacher."""
        super().configure_model()
        if self.ema_teacher is None and self.credit_config.mix:
            self.ema_teacher = self.copy_of_start().requires_grad_(False).eval()

    def update_teacher(self, rate: float) -> None:
        """Move the teacher towards the policy (Eq. 8); `EMATeacherUpdate` calls it."""
        if self.ema_teacher is not None:
            assert self.policy is not None
            self._ema.update(self.ema_teacher, self.policy, rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the float32 weights of a teacher that is stored in less."""
        checkpoint["ema_master"] = self._ema.master

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them over."""
        self._ema.master = {
            name: tensor.to(self.device) for name, tensor in checkpoint["ema_master"].items()
        }

    def start_credit(
        self, sampled: SampledStep, advantages: Float[Tensor, " rows"]
    ) -> PendingCredit:
        """Ask the judge about rollouts that will move something; nothing to ask at λ = 0."""
        if self.credit_mix == 0.0:
            return super().start_credit(sampled, advantages)
        active = advantages.nonzero()[:, 0].tolist()
        assert self.ema_teacher is not None, "credit.mix is above 0, so there is a teacher"
        if not active and is_zero3_sharded(self.ema_teacher):
            active = [0]  # all processes gather a sharded teacher together
        cases = [case for i, case in enumerate(self._cases(sampled)) if i in set(active)]
        has_feedback = self.credit_config.conditioning == "feedback"
        asked = self._pool.submit(self.judge.diagnose, cases if has_feedback else [])
        return _Replay(self, sampled, advantages, active, asked)

    def _cases(self, sampled: SampledStep) -> list[JudgeCase]:
        return [
            JudgeCase(
                group.sample,
                rollout.text,
                parts,
                {r.name: 1.0 for r in self.rewards if r.applies_to(group.sample)},
            )
            for group, breakdowns in zip(sampled.groups, sampled.breakdowns, strict=True)
            for rollout, parts in zip(group.rollouts, breakdowns, strict=True)
        ]


class _Replay(PendingCredit):
    """The teacher's view of the rollouts of one step."""

    def __init__(
        self,
        stage: VISDModule,
        sampled: SampledStep,
        advantages: Float[Tensor, " rows"],
        active: Sequence[int],
        asked: "Future[list[str | None]]",
    ) -> None:
        self.stage, self.sampled, self.advantages = stage, sampled, advantages
        self.active, self.asked = list(active), asked
        self.is_active = torch.zeros_like(advantages, dtype=torch.bool)
        self.is_active[self.active] = True
        self.teacher: TokenScores | None = None
        self.is_counted: Bool[Tensor, "active seq support"] | None = None
        self.metrics: dict[str, float] = {}

    def chosen_ids(self, states: CompletionStates) -> Int[Tensor, "rows seq support"] | None:
        """Replay, and name the ids whose logits the student must give."""
        feedback = self._feedback()
        if not self.active:
            return None
        config, realized = self.stage.credit_config, states.ids[self.is_active]
        teacher = self.stage.ema_teacher
        assert teacher is not None
        prompts, rows = self._rows(feedback)
        is_local = config.support == "top_k"
        with torch.no_grad():
            self.teacher = completion_logprobs(
                teacher,
                prompts,
                rows,
                top_k=config.top_k if is_local else 0,
                chosen_ids=_padded(realized, rows)[..., None] if is_local else None,
            )
        if not is_local:
            return None
        assert self.teacher.top_ids is not None
        width = self.teacher.top_ids.shape[1]
        ids, self.is_counted = local_support(self.teacher.top_ids, realized[:, :width])
        chosen = states.ids.new_zeros(*states.ids.shape, ids.shape[-1])
        chosen[self.is_active, :width] = ids
        return chosen

    def weigh(self, scores: TokenScores) -> tuple[Float[Tensor, "rows seq"], dict[str, float]]:
        """Credit of every token, and what it looks like."""
        stage = self.stage
        credit = torch.ones_like(scores.logprobs)
        log_ratio = torch.zeros_like(scores.logprobs)
        if self.teacher is not None:
            width = self.teacher.logprobs.shape[1]
            log_ratio[self.is_active, :width] = self._log_ratio(scores, width)
        weights = token_weights(log_ratio, self.advantages, stage.credit_config.clip)
        credit = mixed_credit(weights, stage.credit_mix).masked_fill(~scores.mask, 1.0)
        self.metrics["credit/lambda"] = stage.credit_mix
        for name, side in (("better", self.advantages > 0), ("worse", self.advantages < 0)):
            chosen = scores.mask & side[:, None]
            if bool(chosen.any()):
                self.metrics[f"credit/weight_{name}"] = weights[chosen].mean().item()
        if self.active:
            chosen = scores.mask & self.is_active[:, None]
            self.metrics["credit/abs_log_ratio"] = log_ratio[chosen].abs().mean().item()
        return credit, self.metrics

    def _log_ratio(self, scores: TokenScores, width: int) -> Float[Tensor, "active seq"]:
        assert self.teacher is not None
        if self.is_counted is None:
            ratio = sampled_log_ratio(
                self.teacher.logprobs, scores.logprobs[self.is_active, :width]
            )
        else:
            assert self.teacher.top_logits is not None
            assert self.teacher.chosen_logits is not None
            assert scores.chosen_logits is not None
            logits = torch.cat([self.teacher.chosen_logits, self.teacher.top_logits], dim=-1)
            ratio = support_log_ratio(
                logits, scores.chosen_logits[self.is_active, :width], self.is_counted
            )
        return ratio.masked_fill(~self.teacher.mask, 0.0)

    def _feedback(self) -> list[str | None]:
        """What the judge says; without it the teacher sees answer and evidence."""
        found = self.asked.result() or [None] * len(self.active)
        if self.stage.credit_config.conditioning == "feedback" and self.active:
            failures = sum(text is None for text in found)
            self.metrics["judge/failures"] = failures / len(found)
        self.metrics["judge/rollouts"] = float(len(self.active))
        return found

    def _rows(self, feedback: Sequence[str | None]) -> tuple[list, list[Row]]:
        """Prompts up to the question's end, and behind them what the teacher knows."""
        stage, tokenizer = self.stage, self.stage.processor.tokenizer
        size = stage.loss_config.group_size
        split = [split_prompt(p, tokenizer.eos_token_id) for p in self.sampled.batch.prompts]
        rollouts = self.sampled.rollouts
        rows = []
        for index, words in zip(self.active, feedback, strict=True):
            group = index // size
            known = privileged_text(
                self.sampled.groups[group].sample, stage.credit_config.conditioning, words
            )
            context = (*plain_ids(stage.processor, known), *split[group][1])
            rows.append(Row(group, rollouts[index].completion_ids, context))
        used = sorted({row.prompt for row in rows})
        place = {prompt: i for i, prompt in enumerate(used)}
        moved = [Row(place[r.prompt], r.completion_ids, r.context_ids) for r in rows]
        return [split[i][0] for i in used], moved


def _padded(ids: Int[Tensor, "active seq"], rows: Sequence[Row]) -> Int[Tensor, "active width"]:
    """Ids cut to the longest of the rows."""
    return ids[:, : max(len(row.completion_ids) for row in rows)]
