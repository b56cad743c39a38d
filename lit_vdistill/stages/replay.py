"""Replay: what a privileged teacher thinks of the student's own tokens."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import HeadRequest, TokenScores, completion_logprobs
from lit_vdistill.models.prompt import EncodedPrompt, split_prompt
from lit_vdistill.models.tokens import plain_ids
from lit_vdistill.objectives.credit import (
    local_support,
    mixed_credit,
    sampled_log_ratio,
    support_log_ratio,
    token_weights,
)
from lit_vdistill.responses.prompts import Conditioning, privileged_text
from lit_vdistill.stages.step import PendingCredit, SampledStep

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


class NoReplay(PendingCredit):
    """λ = 0: each token has all of its rollout's advantage, and nobody is asked."""

    def weigh(self, scores: TokenScores) -> tuple[Float[Tensor, "rows seq"], dict[str, float]]:
        """Ones."""
        return super().weigh(scores)[0], {"credit/lambda": 0.0, "judge/rollouts": 0.0}


class Replay(PendingCredit):
    """The teacher's view of the rollouts of one step, and the credit that follows from it."""

    def __init__(
        self,
        teacher: PreTrainedModel,
        processor: ProcessorMixin,
        config: CreditConfig,
        mix: float,
        sampled: SampledStep,
        advantages: Float[Tensor, " rows"],
        active: Sequence[int],
        asked: "Future[list[str | None]]",
    ) -> None:
        """Prepare; nothing runs before `chosen_ids`.

        Args:
            teacher: The privileged network.
            processor: Its processor.
            config: How its view becomes credit.
            mix: λ at present.
            sampled: The rollouts of the step.
            advantages: One a rollout.
            active: Rollouts that are replayed, in rising order.
            asked: Their feedback, once the judge has written it; empty when it was not asked.
        """
        self.teacher, self.processor, self.config, self.mix = teacher, processor, config, mix
        self.sampled, self.advantages = sampled, advantages
        self.active, self.asked = list(active), asked
        self.is_active = torch.zeros_like(advantages, dtype=torch.bool)
        self.is_active[self.active] = True
        self.told: TokenScores | None = None
        self.is_counted: Bool[Tensor, "active seq support"] | None = None
        self.metrics: dict[str, float] = {"judge/rollouts": float(len(self.active))}

    def chosen_ids(self, states: CompletionStates) -> Int[Tensor, "rows seq support"] | None:
        """Replay, and name the ids whose log-probabilities the student must give."""
        feedback = self._feedback()
        if not self.active:
            return None
        prompts, rows = replay_rows(
            self.processor, self.sampled, self.active, feedback, self.config.conditioning
        )
        width = max(len(row.completion_ids) for row in rows)
        realized = states.ids[self.is_active, :width]
        is_local = self.config.support == "top_k"
        with torch.no_grad():
            request = HeadRequest(self.config.top_k, realized[..., None]) if is_local else None
            self.told = completion_logprobs(self.teacher, prompts, rows, request)
        if self.told.top_ids is None:
            return None
        ids, self.is_counted = local_support(self.told.top_ids, realized)
        chosen = states.ids.new_zeros(*states.ids.shape, ids.shape[-1])
        chosen[self.is_active, :width] = ids
        return chosen

    def weigh(self, scores: TokenScores) -> tuple[Float[Tensor, "rows seq"], dict[str, float]]:
        """Credit of every token, and what it looks like."""
        log_ratio = torch.zeros_like(scores.logprobs)
        if self.told is not None:
            log_ratio[self.is_active, : self.told.mask.shape[1]] = self._log_ratio(scores)
        weights = token_weights(log_ratio, self.advantages, self.config.clip)
        credit = mixed_credit(weights, self.mix).masked_fill(~scores.mask, 1.0)
        better, worse = (
            scores.mask & side[:, None] for side in (self.advantages > 0, self.advantages < 0)
        )
        # The same keys on all processes, whatever they have: logging waits for each of them.
        self.metrics |= {
            "credit/lambda": self.mix,
            "credit/weight_better": _mean(weights[better], 1.0),
            "credit/weight_worse": _mean(weights[worse], 1.0),
            "credit/abs_log_ratio": _mean(log_ratio[better | worse].abs(), 0.0),
        }
        return credit, self.metrics

    def _log_ratio(self, scores: TokenScores) -> Float[Tensor, "active seq"]:
        assert self.told is not None
        width = self.told.mask.shape[1]
        if self.is_counted is None:
            student = scores.logprobs[self.is_active, :width]
            ratio = sampled_log_ratio(self.told.logprobs, student)
        else:
            assert self.told.top_logprobs is not None
            assert self.told.chosen_logprobs is not None
            assert scores.chosen_logprobs is not None
            teacher = torch.cat([self.told.chosen_logprobs, self.told.top_logprobs], dim=-1)
            student = scores.chosen_logprobs[self.is_active, :width]
            ratio = support_log_ratio(teacher, student, self.is_counted)
        return ratio.masked_fill(~self.told.mask, 0.0)

    def _feedback(self) -> list[str | None]:
        """What the judge says; without it the teacher sees answer and evidence."""
        found = self.asked.result()
        failures = sum(text is None for text in found)
        self.metrics["judge/failures"] = failures / max(1, len(found))
        return found or [None] * len(self.active)


def _mean(values: Tensor, otherwise: float) -> float:
    return values.mean().item() if values.numel() else otherwise


def replay_rows(
    processor: ProcessorMixin,
    sampled: SampledStep,
    chosen: Sequence[int],
    feedback: Sequence[str | None],
    conditioning: Conditioning,
) -> tuple[list[EncodedPrompt], list[Row]]:
    """Prompts up to the question's end, and rollouts behind what the teacher is told of each.

    A teacher that is told nothing reads the whole prompts, as the student does.

    Args:
        processor: The teacher's processor.
        sampled: The rollouts of a step.
        chosen: Which of them, counted over all groups.
        feedback: What the judge says about each of these.
        conditioning: How much the teacher is told.
    """
    rollouts = sampled.rollouts
    size = len(rollouts) // len(sampled.groups)
    used = sorted({index // size for index in chosen})
    turn_end = processor.tokenizer.eos_token_id
    prompts = {group: sampled.batch.prompts[group] for group in used}
    if conditioning == "none":
        split = {group: (prompt, ()) for group, prompt in prompts.items()}
    else:
        split = {group: split_prompt(prompt, turn_end) for group, prompt in prompts.items()}
    rows = []
    for index, words in zip(chosen, feedback, strict=True):
        group = index // size
        known = privileged_text(sampled.groups[group].sample, conditioning, words)
        context = (*plain_ids(processor, known), *split[group][1])
        rows.append(Row(used.index(group), rollouts[index].completion_ids, context))
    return [split[group][0] for group in used], rows


@dataclass(frozen=True, slots=True)
class TokenView:
    """One rollout under two teachers (VISD Appendix E.4); a value a token."""

    ids: tuple[int, ...]
    answer_log_ratio: tuple[float, ...]
    """Δ when the teacher knows the answer only (Eq. 29)."""
    feedback_log_ratio: tuple[float, ...]
    """Δ when it knows evidence and feedback too (Eq. 30)."""
    weights: tuple[float, ...]
    """m of Eq. 25 from the latter."""

    @property
    def judge_log_ratio(self) -> tuple[float, ...]:
        """δ of Eq. 31: what the judge's words add."""
        pairs = zip(self.feedback_log_ratio, self.answer_log_ratio, strict=True)
        return tuple(told - known for told, known in pairs)


@torch.no_grad()
def view_tokens(
    teacher: PreTrainedModel,
    policy: PreTrainedModel,
    processor: ProcessorMixin,
    config: CreditConfig,
    sampled: SampledStep,
    index: int,
    advantage: float,
    feedback: str | None,
) -> TokenView:
    """Compare answer-only and feedback-conditioned replay of one rollout on a common support.

    The support is that of the teacher that knows more: Eqs. 29-31 leave open whose it is.
    """
    rollout = sampled.rollouts[index]
    size = len(sampled.rollouts) // len(sampled.groups)
    device = sampled.batch.prompts[0].input_ids.device
    realized = torch.tensor([rollout.completion_ids], device=device)
    prompts, rows = replay_rows(processor, sampled, [index], [feedback], "feedback")
    top = completion_logprobs(teacher, prompts, rows, HeadRequest(config.top_k)).top_ids
    assert top is not None
    ids, is_counted = local_support(top, realized)

    def logprobs(network: PreTrainedModel, prompts: Sequence[EncodedPrompt], row: Row) -> Tensor:
        scores = completion_logprobs(network, prompts, [row], HeadRequest(chosen_ids=ids))
        assert scores.chosen_logprobs is not None
        return scores.chosen_logprobs

    plain = Row(0, rollout.completion_ids)
    student = logprobs(policy, [sampled.batch.prompts[index // size]], plain)
    told = support_log_ratio(logprobs(teacher, prompts, rows[0]), student, is_counted)
    prompts, rows = replay_rows(processor, sampled, [index], [None], "answer")
    known = support_log_ratio(logprobs(teacher, prompts, rows[0]), student, is_counted)
    weights = token_weights(told, torch.tensor([advantage], device=device), config.clip)
    return TokenView(
        rollout.completion_ids,
        tuple(known[0].tolist()),
        tuple(told[0].tolist()),
        tuple(weights[0].tolist()),
    )
