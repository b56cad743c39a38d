"""Which read-out tells teacher from student, and right from wrong?

python -m experiments.read_outs --json experiments/read_outs.json

Discriminators that differ in their read-out alone learn by R-MSD Eq. 7 from the same rollouts, in
the same order: those of the resting stage-1 student on training questions, beside their pool. They
then judge its answers to validation questions (`experiments/discriminator.py` has the instruments),
beside what is not trained: the mean log-probability under stage 1, and true quality. The embedded
world must have been rendered (any run of a recipe does it).
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch.utils.data import Subset

from experiments.bootstrap import error_over_videos
from experiments.discriminator import POOL_SIZE, JudgedGroup, accuracy, correlation, with_teachers
from experiments.students import STAGE1, Answered, Student
from lit_vdistill.models.discriminator import Discriminator, ReadOut
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.objectives.adversarial import pair_weights, pairwise_total
from lit_vdistill.objectives.schedules import learning_rate_factor
from lit_vdistill.pool.matching import MatchingConfig
from lit_vdistill.rewards import graded_quality
from lit_vdistill.stages.critique import critique
from lit_vdistill.stages.matches import Match, match_teachers, pairs_of
from lit_vdistill.stages.step import Experience
from lit_vdistill.types import RolloutGroup
from lit_vdistill.world.config import WorldConfig

WINDOW, GROUP_SIZE = 12, 4
"""Training questions a step, and rollouts of each."""
TUNING_VIDEOS = 30
"""Training videos, the last ones, that nothing learns from: rates can be compared on them."""
UNTRAINED, TRUTH = "stage-1 likelihood", "true quality"
MATCHING = MatchingConfig(pool_size=POOL_SIZE)
Measure = Callable[[Sequence[JudgedGroup]], float]


@dataclass(frozen=True, slots=True)
class Paired:
    """One question as two judges see it."""

    ours: JudgedGroup
    theirs: JudgedGroup

    @property
    def video(self) -> str:
        """What it is about."""
        return self.ours.video


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge of held-out answers; errors are standard errors over videos."""

    accuracy: float
    accuracy_error: float
    correlation: float
    correlation_error: float
    accuracy_gain: float
    """Over the stage-1 likelihood, question by question."""
    accuracy_gain_error: float
    correlation_gain: float
    correlation_gain_error: float


def training_windows(student: Student, num_steps: int, seed: int) -> list[Experience]:
    """The student's answers to training questions in random order, with the pool of each."""
    questions = student.data.train_set
    videos = list(dict.fromkeys(sample.media for sample in questions.samples))
    apart = set(videos[-TUNING_VIDEOS:])
    order = [i for i, sample in enumerate(questions.samples) if sample.media not in apart]
    random.Random(seed).shuffle(order)
    chosen = Subset(questions, order[: num_steps * WINDOW])
    answered = student.answers(chosen, GROUP_SIZE, seed)
    return [window for part in answered for window in _windows(part)]


def _windows(answered: Answered) -> list[Experience]:
    batch, drawn = answered
    seen = batch.with_prompts([prompt.without_pixels() for prompt in batch.prompts])
    pairs = zip(seen.items, drawn, strict=True)
    groups = tuple(RolloutGroup(item.sample, rollouts) for item, rollouts in pairs)
    whole, places = Experience(seen, groups, ((),) * len(groups)), range(len(groups))
    return [whole.part(places[i : i + WINDOW]) for i in places[::WINDOW]]


def trained(
    read_out: ReadOut, rate: float, windows: Sequence[Experience], student: Student, seed: int
) -> Discriminator:
    """A discriminator after one step of Eq. 7 on each window, as the recipes take it."""
    torch.manual_seed(seed)
    discriminator = Discriminator(load_model(VLMConfig(STAGE1, freeze_vision=True)), read_out)
    parameters = [p for p in discriminator.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    for step, window in enumerate(windows):
        matches = match_teachers(window, MATCHING, seed=seed, step=step)
        pairs = pairs_of(window, matches)
        said = critique(discriminator, student.processor, window, matches)
        teachers, students = said.sides(pairs)
        quality = students.new_tensor([pair.quality for pair in pairs])
        weights = pair_weights(quality, 1.0, "q")
        loss = pairwise_total(teachers, students, weights) / max(len(pairs), 1)
        for group in optimizer.param_groups:
            group["lr"] = rate * learning_rate_factor(step, len(windows), 0.03, "cosine")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        sys.stderr.write(f"\r{read_out}: step {step + 1} of {len(windows)}")
    return discriminator.eval()


@torch.no_grad()
def judged(
    discriminator: Discriminator, windows: Sequence[Experience], student: Student
) -> list[JudgedGroup]:
    """What a discriminator thinks of each answer and of the teacher response it is matched to."""
    found = []
    for window in windows:
        said = critique(discriminator, student.processor, window, _matches(window))
        found += _judged(window, said.students.tolist(), [t.tolist() for t in said.teachers])
    return found


def truth_judged(windows: Sequence[Experience]) -> list[JudgedGroup]:
    """The same by true quality, which does not tell apart what is as good."""
    found = []
    for window in windows:
        teachers = [
            [graded_quality(s.response.text, group.sample) for s in match.responses]
            if match is not None
            else []
            for group, match in zip(window.groups, _matches(window), strict=True)
        ]
        found += _judged(window, _qualities(window), teachers)
    return found


def _matches(window: Experience) -> list[Match | None]:
    return match_teachers(window, MATCHING, seed=0, step=0)


def _qualities(window: Experience) -> list[list[float]]:
    return [[graded_quality(r.text, g.sample) for r in g.rollouts] for g in window.groups]


def _judged(
    window: Experience, students: Sequence[Sequence[float]], teachers: Sequence[Sequence[float]]
) -> list[JudgedGroup]:
    """Scores of rollouts and of drawable teacher responses, with the gap in each unlike pair."""
    matches = _matches(window)
    gaps: list[list[float]] = [[] for _ in window.groups]
    for pair in pairs_of(window, matches):
        match = matches[pair.group]
        assert match is not None
        theirs = match.responses[pair.response].response.text
        if theirs != window.groups[pair.group].rollouts[pair.rollout].text:
            gap = teachers[pair.group][pair.response] - students[pair.group][pair.rollout]
            gaps[pair.group].append(gap)
    return [
        JudgedGroup(
            str(group.sample.task),
            str(group.sample.media),
            tuple(quality),
            {"discriminator": tuple(said)},
            tuple(gap),
        )
        for group, quality, said, gap in zip(
            window.groups, _qualities(window), students, gaps, strict=True
        )
    ]


def verdict(ours: Sequence[JudgedGroup], theirs: Sequence[JudgedGroup]) -> Verdict:
    """Accuracy and correlation, and how far both are above another judge's of the same answers."""
    paired = [Paired(a, b) for a, b in zip(ours, theirs, strict=True)]
    measures: tuple[Measure, ...] = (accuracy, partial(correlation, detector="discriminator"))
    alone = [(measure(ours), error_over_videos(ours, measure)) for measure in measures]
    gained = [
        (_gain(paired, measure), error_over_videos(paired, partial(_gain, measure=measure)))
        for measure in measures
    ]
    return Verdict(*(figure for pair in (*alone, *gained) for figure in pair))


def _gain(items: Sequence[Paired], measure: Measure) -> float:
    return measure([i.ours for i in items]) - measure([i.theirs for i in items])


def compare(
    student: Student,
    windows: Sequence[Experience],
    held_out: Sequence[Experience],
    rate: float,
    seed: int,
) -> Iterator[tuple[str, Verdict]]:
    """The verdict on what is not trained, and on each read-out."""
    untrained = Discriminator(load_model(VLMConfig(STAGE1)), "likelihood").eval()
    base = judged(untrained, held_out, student)
    yield TRUTH, verdict(truth_judged(held_out), base)
    yield UNTRAINED, verdict(base, base)
    for read_out in get_args(ReadOut):
        discriminator = trained(read_out, rate, windows, student, seed)
        yield read_out, verdict(judged(discriminator, held_out, student), base)


def table(found: Mapping[str, Verdict]) -> str:
    """The verdicts in Markdown; ± half of a 95 % interval over videos."""
    head = ("judge", "pair accuracy", "correlation", "accuracy gained", "correlation gained")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, v in found.items():
        cells = [
            f"{v.accuracy:.3f} ± {1.96 * v.accuracy_error:.3f}",
            f"{v.correlation:.2f} ± {1.96 * v.correlation_error:.2f}",
            f"{v.accuracy_gain:+.3f} ± {1.96 * v.accuracy_gain_error:.3f}",
            f"{v.correlation_gain:+.3f} ± {1.96 * v.correlation_gain_error:.3f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Sample, train, judge and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="runs/world", help="rendered with its default size")
    parser.add_argument("--steps", type=int, default=60, help="of each discriminator")
    parser.add_argument("--rate", type=float, default=1e-4, help="its peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    student = Student.load(STAGE1, args.world, pool=f"{args.world}/pool.jsonl")
    windows = training_windows(student, args.steps, args.seed)
    answered = student.answers(student.data.val_set, 2 * GROUP_SIZE, args.seed)
    held_out = [with_teachers(*part, WorldConfig()) for part in answered]
    found: dict[str, Verdict] = {}
    for name, of_it in compare(student, windows, held_out, args.rate, args.seed):
        found[name] = of_it
        sys.stderr.write(f"\n{table({name: of_it})}\n")
    sys.stdout.write("\n" + table(found) + "\n")
    if args.json:
        figures = {name: asdict(v) for name, v in found.items()}
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
