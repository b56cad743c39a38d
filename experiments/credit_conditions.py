"""What token credit is measured under: what its teacher is told and sees, and controls without one.

Every condition gives each token of a rollout a Δ (VISD Eqs. 3-4), or what stands in for it.
`experiments.credit` measures them all on the same rollouts.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.judge.judge import Judge, JudgeCase
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.judge.shuffled import ShuffledJudge
from lit_vdistill.judge.wrong import WrongJudge
from lit_vdistill.metrics.token_truth import marks, token_marks
from lit_vdistill.models.forward import completion_states, pad_token_id
from lit_vdistill.models.logprobs import completion_logprobs, head_scores
from lit_vdistill.models.tokens import token_spans
from lit_vdistill.responses.prompts import Conditioning
from lit_vdistill.rewards import (
    Answer,
    AnswerBox,
    AnswerTime,
    GroundedFormat,
    ThinkPoint,
    ThinkSegment,
    ThinkSpace,
    reward_breakdown,
)
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.improbable_tokens import ImprobableConfig
from lit_vdistill.stages.replay import CreditConfig, Replay, Support
from lit_vdistill.stages.step import Experience
from lit_vdistill.types import Rollout, RolloutGroup

CLIP = ViewConfig(span="evidence")
SURE = 10.0
"""|Δ| of the oracle, beyond every bound."""
IMPROBABLE = ImprobableConfig().below
"""Below this probability a token is improbable."""
VERIFIER = (
    Answer(), AnswerTime(), AnswerBox(), ThinkSegment(), ThinkPoint(), ThinkSpace(preset="visd"),
    GroundedFormat(),
)  # fmt: skip
Ratios = dict[str, Float[Tensor, "rows seq"]]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A copy of the student that is told or sees more."""

    conditioning: Conditioning
    judge: Callable[[], Judge] = RuleJudge
    view: ViewConfig | None = None
    """What it sees; None = what the student sees."""
    support: Support = "top_k"

    def config(self, dtype: Literal["float32", "bfloat16"] = "float32") -> CreditConfig:
        """As `configs/visd.yaml` has what a teacher is told."""
        return CreditConfig(
            conditioning=self.conditioning,
            evidence="boxes",
            feedback_as="earlier_answer",
            dtype=dtype,
            view=self.view,
            support=self.support,
        )


TEACHERS = {
    "answer": Teacher("answer"),
    "evidence": Teacher("evidence"),
    "feedback": Teacher("feedback"),
    "sampled token": Teacher("feedback", support="sampled_token"),
    "shuffled": Teacher("feedback", lambda: ShuffledJudge(RuleJudge())),
    "wrong": Teacher("feedback", lambda: WrongJudge(RuleJudge())),
    "clip": Teacher("evidence", view=CLIP),
    "clip, untold": Teacher("none", view=CLIP),
}
CONDITIONS = (*TEACHERS, "permuted", "improbable", "constant", "oracle")
"""The last four have no teacher of their own. `permuted`: Δ of `feedback` on other tokens of the
rollout. `improbable`: how far the student's own probability is below a half. `constant`: the same
for all. `oracle`: knows which tokens are wrong."""


def experience_of(batch: PromptBatch, drawn: Sequence[tuple[Rollout, ...]]) -> Experience:
    """Rollouts with what the verifier says about them."""
    groups = tuple(
        RolloutGroup(item.sample, rollouts)
        for item, rollouts in zip(batch.items, drawn, strict=True)
    )
    parts = tuple(
        tuple(reward_breakdown(VERIFIER, rollout, group.sample) for rollout in group.rollouts)
        for group in groups
    )
    return Experience(batch, groups, parts)


def cases_of(experience: Experience) -> list[JudgeCase]:
    """What a judge is asked about an experience, row by row."""
    return [
        JudgeCase.scored(group.sample, rollout.text, VERIFIER, part)
        for group, parts in zip(experience.groups, experience.breakdowns, strict=True)
        for rollout, part in zip(group.rollouts, parts, strict=True)
    ]


def log_ratios(
    model: PreTrainedModel, processor: ProcessorMixin, experience: Experience, seed: int
) -> Ratios:
    """Δ of every token under each condition.

    Args:
        model: The student.
        processor: Its processor.
        experience: Its rollouts; the items have the teacher's view too.
        seed: Of the permutation.
    """
    cases = cases_of(experience)
    found = {}
    for name, teacher in TEACHERS.items():
        told = teacher.judge().diagnose(cases)
        found[name] = log_ratio(model, processor, experience, teacher.config(), told)
    with torch.no_grad():
        own = completion_logprobs(model, experience.batch.prompts, experience.rows)
    below = own.logprobs - torch.tensor(IMPROBABLE).log()
    found["improbable"] = below.masked_fill(~own.mask, 0.0)
    found["constant"] = torch.zeros_like(below)
    found["permuted"] = found["feedback"].clone()
    found["oracle"] = torch.zeros_like(below)
    generator = torch.Generator().manual_seed(seed)
    samples = [group.sample for group in experience.groups for _ in group.rollouts]
    for place, (sample, rollout) in enumerate(zip(samples, experience.rollouts, strict=True)):
        length = len(rollout.completion_ids)
        order = torch.randperm(length, generator=generator)
        found["permuted"][place, :length] = found["feedback"][place, order]
        spans = token_spans(processor, rollout.completion_ids)
        for token, mark in enumerate(token_marks(marks(rollout.text, sample), spans)):
            if mark is not None and mark.verdict == "wrong":
                found["oracle"][place, token] = -SURE
    return found


def log_ratio(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    experience: Experience,
    config: CreditConfig,
    told: Sequence[str | None],
) -> Float[Tensor, "rows seq"]:
    """Δ of every token when the student's own weights are told, or see, more."""
    if config.view is None:
        experience = replace(experience, batch=experience.batch.without_views())
    rows = experience.rows
    advantages = torch.ones(len(rows))
    replay = Replay(model, processor, config, lambda: 1.0, experience, advantages, range(len(rows)))
    replay.asked = Future()
    replay.asked.set_result(list(told))
    with torch.no_grad():
        states = completion_states(model.model, experience.batch.prompts, rows, pad_token_id(model))
        replay.terms(head_scores(model.lm_head, states, replay.request(states)), StepMetrics())
    return replay.state()["log_ratio"]
