"""Replay: what a privileged teacher thinks of the student's own tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.judge.call import JudgeCall
from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import HeadRequest, TokenScores, completion_logprobs
from lit_vdistill.models.prompt import EncodedPrompt, split_prompt
from lit_vdistill.models.tokens import plain_ids
from lit_vdistill.objectives.credit import (
    check_clip,
    local_support,
    mixed_credit,
    rounded_log_ratio,
    rounded_logprobs,
    sampled_log_ratio,
    support_log_ratio,
    token_weights,
)
from lit_vdistill.objectives.precision import widened
from lit_vdistill.responses.prompts import Telling, privileged_text
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.method import TokenMethod, TokenTerms
from lit_vdistill.stages.step import Experience

Support = Literal["top_k", "sampled_token"]


@dataclass(frozen=True)
class CreditConfig(Telling):
    """How the teacher's view becomes credit for tokens (VISD Table 8)."""

    mix: float = 0.5
    """λ of Eq. 7: share of the credit that the teacher decides; `LambdaAnnealing` lowers it."""
    clip: float | None = 0.2
    """ε_w of Eq. 6: weights stay within 1 ± it; null bounds nothing, and one token may then weigh
    as much as all others."""
    support: Support = "top_k"
    """Compare on the teacher's `top_k` and the token itself, or by the `sampled_token` alone (the
    whole vocabulary, as RLSD)."""
    top_k: int = 16
    """K of Eq. 3."""
    view: ViewConfig | None = None
    """What the teacher sees beside what it knows; null = what the student sees (VISD)."""
    judge_timeout_s: float = 120.0
    """Seconds in which the judge must answer; later it has failed on all it was asked."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type in which both log-softmaxes and Δ are computed; `bfloat16` rounds as VISD's released
    code does."""

    def __post_init__(self) -> None:
        """Refuse a bound that is none; see `check_clip`."""
        check_clip(self.clip)


class NoReplay(TokenMethod):
    """λ = 0: each token has all of its rollout's advantage, and nobody is asked."""

    def terms(self, scores: TokenScores, metrics: StepMetrics) -> TokenTerms:
        """Nothing."""
        metrics.add("credit/lambda", 0.0, 1.0)
        metrics.add_sum("judge/rollouts", 0.0)
        return TokenTerms()


class Replay(TokenMethod):
    """The teacher's view of the rollouts of one piece, and the credit that follows from it."""

    def __init__(
        self,
        teacher: PreTrainedModel | None,
        processor: ProcessorMixin,
        config: CreditConfig,
        mix: Callable[[], float],
        part: Experience,
        advantages: Float[Tensor, " rows"],
        active: Sequence[int],
    ) -> None:
        """Prepare; nothing runs before `request`.

        Args:
            teacher: The privileged network; None where Δ is known already.
            processor: Its processor.
            config: How its view becomes credit.
            mix: Gives λ at present; it moves between the updates of a window, Δ does not.
            part: The rollouts.
            advantages: One a rollout.
            active: Rollouts that are replayed, in rising order.
        """
        self.processor, self.config, self.mix = processor, config, mix
        self.teacher = teacher
        """Let go once Δ is known, as the next: a window's method lives longer."""
        self.part: Experience | None = part
        """On the device."""
        self.advantages = advantages
        self.active = list(active)
        self.is_active = torch.zeros_like(advantages, dtype=torch.bool)
        self.is_active[self.active] = True
        self.asked: JudgeCall | None = None
        """Feedback on the active rollouts, once the judge has written it; empty = not asked."""
        self.is_viewed = False
        """Whether `view` is to be filled; where there is feedback, costs one more row of the
        teacher."""
        self.view: TokenView | None = None
        """The rollout that moves most, as the teacher saw it; None at λ = 0, which uses nothing."""
        self.log_ratio: Float[Tensor, "rows seq"] | None = None
        """Δ of the window's first update."""
        self._told: _Told | None = None
        self._most: int | None = None
        self._unjudged: _Told | None = None
        self.feedback: Mapping[int, str] = {}

    def state(self) -> dict[str, Tensor]:
        """Δ: judge and teacher are asked once a window."""
        assert self.log_ratio is not None
        return {"log_ratio": self.log_ratio}

    def request(self, states: CompletionStates) -> HeadRequest:
        """Replay, and name the ids whose log-probabilities the student must give."""
        if self.log_ratio is not None:
            return HeadRequest()
        assert self.asked is not None
        said = self.asked.result() or [None] * len(self.active)
        told = zip(self.active, said, strict=True)
        self.feedback = {row: words for row, words in told if words is not None}
        if not self.active:
            return HeadRequest()
        self._told = self._ask(states, self.active, said)
        if self.is_viewed:
            most = max(self.active, key=lambda row: abs(self.advantages[row].item()))
            self._most = most
            if self.config.conditioning == "feedback":
                support = self._told.row(self.active.index(most))
                self._unjudged = self._ask(states, [most], [None], support)
        if self._told.ids is None:
            return HeadRequest()
        _, width, size = self._told.ids.shape
        chosen = states.ids.new_zeros(*states.ids.shape, size)
        chosen[self.is_active, :width] = self._told.ids
        return HeadRequest(chosen_ids=chosen)

    def terms(self, scores: TokenScores, metrics: StepMetrics) -> TokenTerms:
        """Credit of every token, and what it looks like."""
        if self.log_ratio is None:
            self.log_ratio = self._log_ratio(scores)
            judged = self.asked.result() if self.asked is not None else []
            failures = sum(text is None for text in judged)
            metrics.add_sum("judge/rollouts", self.advantages[self.active].ne(0).sum())
            metrics.add("judge/failures", float(failures), float(len(judged)))
        weights = token_weights(self.log_ratio, self.advantages, self.config.clip)
        mix = self.mix()
        if self._most is not None:
            self.view = self._view(self._most, scores, weights)
        elif self.view is not None:
            self.view = replace(self.view, mix=mix)
        if mix == 0.0:
            self.view = None
        self._told = self._most = self._unjudged = self.part = None  # not needed again
        self.teacher = None
        metrics.add("credit/lambda", mix, 1.0)
        for name, side in (("better", self.advantages > 0), ("worse", self.advantages < 0)):
            metrics.add_mean(f"credit/weight_{name}", weights[scores.mask & side[:, None]])
        moved = scores.mask & self.advantages.ne(0)[:, None]
        metrics.add_mean("credit/abs_log_ratio", self.log_ratio[moved].abs())
        return TokenTerms(factors=mixed_credit(weights, mix).masked_fill(~scores.mask, 1.0))

    def _ask(
        self,
        states: CompletionStates,
        chosen: Sequence[int],
        feedback: Sequence[str | None],
        support: "_Told | None" = None,
    ) -> "_Told":
        """The teacher's view of some rollouts, on its own top K or on a given support."""
        assert self.part is not None
        assert self.teacher is not None
        own_look = self.config.view is not None
        prompts, rows = replay_rows(
            self.processor, self.part, chosen, feedback, self.config, own_look=own_look
        )
        realized = states.ids[list(chosen), : max(len(row.completion_ids) for row in rows)]
        is_local = self.config.support == "top_k"
        ids = realized[..., None] if support is None or support.ids is None else support.ids
        top_k = self.config.top_k if support is None else 0
        request = HeadRequest(top_k=top_k, chosen_ids=ids) if is_local else HeadRequest()
        with torch.no_grad():
            scores = completion_logprobs(self.teacher, prompts, rows, request)
        assert scores.normalizers is not None
        if not is_local:
            return _Told(scores.logprobs, scores.normalizers, scores.mask)
        assert scores.chosen_logprobs is not None
        logprobs = scores.chosen_logprobs
        if support is not None:
            where = support.ids, support.is_counted
            return _Told(logprobs, scores.normalizers, scores.mask, *where)
        assert scores.top_ids is not None
        assert scores.top_logprobs is not None
        logprobs = torch.cat([logprobs, scores.top_logprobs], dim=-1)
        where = local_support(scores.top_ids, realized)
        return _Told(logprobs, scores.normalizers, scores.mask, *where)

    def _log_ratio(self, scores: TokenScores) -> Float[Tensor, "rows seq"]:
        """Δ of every token; 0 where nobody was asked."""
        log_ratio = torch.zeros_like(scores.logprobs)
        if self._told is not None:
            found = self._told.log_ratio(scores, self.active, self.config.dtype)
            log_ratio[self.is_active, : found.shape[1]] = found
        return log_ratio

    def _view(
        self, row: int, scores: TokenScores, weights: Float[Tensor, "rows seq"]
    ) -> "TokenView":
        assert self.log_ratio is not None
        length = int(scores.mask[row].sum())
        judged, unjudged = {one: self.feedback.get(one) for one in self.active}, None
        if judged[row] is not None and self._unjudged is not None:
            found = self._unjudged.log_ratio(scores, [row], self.config.dtype)
            unjudged = tuple(found[0].tolist())
        return TokenView(
            rollout=row,
            log_ratio=tuple(self.log_ratio[row, :length].tolist()),
            unjudged_log_ratio=unjudged,
            weights=tuple(weights[row, :length].tolist()),
            mix=self.mix(),
            judged=judged,
        )


def replay_rows(
    processor: ProcessorMixin,
    part: Experience,
    chosen: Sequence[int],
    feedback: Sequence[str | None],
    telling: Telling,
    *,
    own_look: bool = False,
) -> tuple[list[EncodedPrompt], list[Row]]:
    """Prompts up to the question's end, and rollouts behind what the teacher is told of each.

    The prompts show what the teacher sees. A teacher that is told nothing reads them whole, as the
    student does.

    Args:
        processor: The teacher's processor.
        part: Rollouts.
        chosen: Which of them, counted over all groups.
        feedback: What the judge says about each of these.
        telling: How much the teacher is told, and how.
        own_look: Whether its tower looks at all of them: where some are seen otherwise, processes
            that see none must make the same calls of a sharded tower.
    """
    rollouts = part.rollouts
    size = len(rollouts) // len(part.groups)
    used = sorted({index // size for index in chosen})
    turn_end = processor.tokenizer.eos_token_id
    views = part.batch.views
    prompts = {group: views[group] for group in used}
    if own_look:
        prompts = {group: replace(prompt, features=None) for group, prompt in prompts.items()}
    if telling.conditioning == "none":
        split = {group: (prompt, ()) for group, prompt in prompts.items()}
    else:
        split = {group: split_prompt(prompt, turn_end) for group, prompt in prompts.items()}
    rows = []
    for index, words in zip(chosen, feedback, strict=True):
        group = index // size
        known = privileged_text(part.groups[group].sample, telling, words)
        context = (*plain_ids(processor, known), *split[group][1])
        rows.append(Row(used.index(group), rollouts[index].completion_ids, context))
    return [split[group][0] for group in used], rows


@dataclass(frozen=True, slots=True)
class TokenView:
    """One rollout as a step used it, and without the judge (VISD Appendix E.4); a value a token."""

    rollout: int
    """Which one, counted over all groups of its piece."""
    log_ratio: tuple[float, ...]
    """Δ that the step learnt from, as configured (Eq. 22; Eq. 30 where there was feedback)."""
    unjudged_log_ratio: tuple[float, ...] | None
    """Δ of a teacher that is told the same but the judge's words (Eq. 29), on the support of the
    one that is told them: Eqs. 29-31 leave open whose it is. None where there were none."""
    weights: tuple[float, ...]
    """m of Eq. 25."""
    mix: float
    """λ of the step, with which m became credit (Eq. 26)."""
    judged: Mapping[int, str | None]
    """What the judge said about each rollout of the piece that moves, by its number as above; None
    where nobody was asked, or the judge failed."""

    @property
    def feedback(self) -> str | None:
        """What the judge said about this one."""
        return self.judged[self.rollout]


@dataclass(frozen=True, slots=True)
class _Told:
    """What a teacher says about some rollouts."""

    logprobs: Tensor
    """Of each token, `[asked seq]`, or of each id of its support, `[asked seq support]`."""
    normalizers: Float[Tensor, "asked seq"]
    mask: Bool[Tensor, "asked seq"]
    ids: Int[Tensor, "asked seq support"] | None = None
    """The realized token and the teacher's top K; None = compared on the whole vocabulary."""
    is_counted: Bool[Tensor, "asked seq support"] | None = None

    def row(self, index: int) -> "_Told":
        """One of the rollouts, without its padding."""
        place = (slice(index, index + 1), slice(int(self.mask[index].sum())))
        ids = None if self.ids is None else self.ids[place]
        is_counted = None if self.is_counted is None else self.is_counted[place]
        logprobs, totals = self.logprobs[place], self.normalizers[place]
        return _Told(logprobs, totals, self.mask[place], ids, is_counted)

    def log_ratio(
        self, scores: TokenScores, rows: Sequence[int], dtype: str
    ) -> Float[Tensor, "asked seq"]:
        """Δ of every token, from what the student says about it, 0 at padding."""
        chosen, width, is_rounded = list(rows), self.mask.shape[1], dtype == "bfloat16"
        assert scores.normalizers is not None
        told, totals = self.normalizers, scores.normalizers[chosen, :width]
        if self.ids is None or self.is_counted is None:
            teacher, student = self.logprobs, scores.logprobs[chosen, :width]
            if is_rounded:
                teacher, student = (
                    rounded_logprobs(teacher, told),
                    rounded_logprobs(student, totals),
                )
            ratio = widened(sampled_log_ratio(teacher, student))
        else:
            assert scores.chosen_logprobs is not None
            teacher, student = self.logprobs, scores.chosen_logprobs[chosen, :width]
            if is_rounded:
                logits = teacher + told[..., None], student + totals[..., None]
                ratio = rounded_log_ratio(logits[0], logits[1], self.is_counted)
            else:
                ratio = support_log_ratio(teacher, student, self.is_counted)
        return ratio.masked_fill(~self.mask, 0.0)
