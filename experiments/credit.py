"""Does token credit find the tokens that are wrong? The area under its ROC, by what it is told.

python -m experiments.credit --student runs/sft_privileged/student --json experiments/credit.json

The student answers held-out questions of the embedded world; a copy of it that is told more replays
its tokens. -Δ (VISD Eqs. 3-4) is then a detector of wrong tokens: the area under its ROC curve is
the chance that a wrong token has a lower Δ than a right one of the same kind in the same task. 0.5
is blind. Truth is `metrics/token_truth.py`; what it cannot tell is left out and counted. `shuffled`
is the control: feedback on another rollout. `clip` sees the evidence clip in place of the video.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torchmetrics.functional.classification import binary_auroc
from transformers import PreTrainedModel, ProcessorMixin

from experiments.bootstrap import error_over_videos
from experiments.students import Student
from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.judge.shuffled import ShuffledJudge
from lit_vdistill.metrics.token_truth import marks, token_marks
from lit_vdistill.models.forward import completion_states, pad_token_id
from lit_vdistill.models.logprobs import head_scores
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
from lit_vdistill.stages.replay import CreditConfig, Replay
from lit_vdistill.stages.step import Experience
from lit_vdistill.types import Rollout, RolloutGroup

CLIP = ViewConfig(span="evidence")
VIEWS: dict[str, tuple[Conditioning, ViewConfig | None]] = {
    "answer": ("answer", None),
    "evidence": ("evidence", None),
    "feedback": ("feedback", None),
    "shuffled": ("feedback", None),
    "clip": ("evidence", CLIP),
    "clip_untold": ("none", CLIP),
}
"""What the teacher is told and what it sees, by column; None = what the student sees."""
VERIFIER = (
    Answer(), AnswerTime(), AnswerBox(), ThinkSegment(), ThinkPoint(), ThinkSpace(preset="visd"),
    GroundedFormat(),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgedToken:
    """A sampled token whose truth is known."""

    task: str
    kind: str
    video: str
    is_wrong: bool
    log_ratio: Mapping[str, float]
    """Δ by view."""


def area(tokens: Sequence[JudgedToken], view: str) -> float:
    """Area under the ROC of -Δ for wrong tokens against right ones of their task and kind.

    An area for each task and kind, averaged by its number of pairs; NaN where no kind has both.
    """
    strata: dict[tuple[str, str], list[JudgedToken]] = defaultdict(list)
    for token in tokens:
        strata[token.task, token.kind].append(token)
    total = pairs = 0.0
    for members in strata.values():
        wrong = sum(token.is_wrong for token in members)
        count = wrong * (len(members) - wrong)
        if count:
            scores = torch.tensor([-token.log_ratio[view] for token in members])
            truth = torch.tensor([token.is_wrong for token in members], dtype=torch.long)
            # The function squashes what is outside of [0, 1]: ranks are all it needs.
            ranks = torch.unique(scores, return_inverse=True)[1] / len(scores)
            total += count * float(binary_auroc(ranks, truth))
            pairs += count
    return total / pairs if pairs else float("nan")


def judged(
    student: Student, num_rollouts: int, seed: int, limit: int | None
) -> Iterator[JudgedToken | None]:
    """The tokens of a student's answers; None for one that is unclear. See `Student.answers`."""
    student.data.val_set.show_teacher(CLIP)
    with torch.no_grad():
        for batch, drawn in student.answers(student.data.val_set, num_rollouts, seed, limit):
            experience = experience_of(batch, drawn)
            yield from judge_tokens(student.model, student.processor, experience)


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


def judge_tokens(
    model: PreTrainedModel, processor: ProcessorMixin, experience: Experience
) -> Iterator[JudgedToken | None]:
    """Every token of an experience that states something, with Δ under every view."""
    ratios = {}
    cases = cases_of(experience)
    feedback = RuleJudge().diagnose(cases)
    shuffled = ShuffledJudge(RuleJudge()).diagnose(cases)
    for name, (conditioning, view) in VIEWS.items():
        told = shuffled if name == "shuffled" else feedback
        ratios[name] = log_ratio(model, processor, experience, conditioning, told, view=view)
    rows = [(group.sample, rollout) for group in experience.groups for rollout in group.rollouts]
    for row, (sample, rollout) in enumerate(rows):
        spans = token_spans(processor, rollout.completion_ids)
        for place, mark in enumerate(token_marks(marks(rollout.text, sample), spans)):
            if mark is None:
                continue
            if mark.verdict == "unclear":
                yield None
                continue
            yield JudgedToken(
                task=str(sample.task),
                kind=mark.kind,
                video=str(sample.media),
                is_wrong=mark.verdict == "wrong",
                log_ratio={view: float(found[row, place]) for view, found in ratios.items()},
            )


def log_ratio(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    experience: Experience,
    conditioning: Conditioning,
    told: Sequence[str | None],
    dtype: Literal["float32", "bfloat16"] = "float32",
    view: ViewConfig | None = None,
) -> torch.Tensor:
    """Δ of every token `[rows, seq]` when the student's own weights are told, or see, more."""
    if view is None:
        experience = replace(experience, batch=experience.batch.without_views())
    rows = experience.rows
    advantages = torch.ones(len(rows))
    config = CreditConfig(
        conditioning=conditioning,
        evidence="boxes",
        feedback_as="earlier_answer",
        dtype=dtype,
        view=view,
    )
    replay = Replay(model, processor, config, lambda: 1.0, experience, advantages, range(len(rows)))
    replay.asked = Future()
    replay.asked.set_result(list(told))
    with torch.no_grad():
        states = completion_states(model.model, experience.batch.prompts, rows, pad_token_id(model))
        replay.terms(head_scores(model.lm_head, states, replay.request(states)), StepMetrics())
    return replay.state()["log_ratio"]


def cases_of(experience: Experience) -> list[JudgeCase]:
    """What a judge is asked about an experience, row by row."""
    return [
        JudgeCase.scored(group.sample, rollout.text, VERIFIER, part)
        for group, parts in zip(experience.groups, experience.breakdowns, strict=True)
        for rollout, part in zip(group.rollouts, parts, strict=True)
    ]


def report(tokens: Sequence[JudgedToken], num_unclear: int) -> dict[str, dict[str, float]]:
    """By task and in all: area and standard error of every view, and how many tokens it is of."""
    groups = {"all": list(tokens)}
    for token in tokens:
        groups.setdefault(token.task, []).append(token)
    found: dict[str, dict[str, float]] = {}
    for name, members in groups.items():
        wrong = sum(token.is_wrong for token in members)
        found[name] = {"wrong": wrong, "right": len(members) - wrong}
        for view in VIEWS:
            found[name][view] = area(members, view)
            found[name][f"{view}_error"] = error_over_videos(members, partial(area, view=view))
    found["all"]["unclear"] = num_unclear
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The report in Markdown."""
    lines = ["| task | " + " | ".join(VIEWS) + " | wrong | right |"]
    lines.append("|---|" + "---|" * (len(VIEWS) + 2))
    for name, row in found.items():
        cells = [f"{row[view]:.3f} ± {row[f'{view}_error']:.3f}" for view in VIEWS]
        lines.append(
            f"| {name} | " + " | ".join(cells) + f" | {row['wrong']:.0f} | {row['right']:.0f} |"
        )
    lines.append(f"\n{found['all']['unclear']:.0f} tokens were unclear and are left out.")
    return "\n".join(lines)


def main() -> None:
    """Sample, replay, judge and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="runs/sft_privileged/student")
    parser.add_argument("--world", default="runs/world")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--rollouts", type=int, default=8, help="answers to each question")
    parser.add_argument("--questions", type=int, help="only so many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    student = Student.load(args.student, args.world, args.split)
    tokens = list(judged(student, args.rollouts, args.seed, args.questions))
    known = [token for token in tokens if token is not None]
    found = report(known, len(tokens) - len(known))
    sys.stdout.write("\n" + table(found) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
