"""Does the discriminator know good answers from bad ones? Against length and likelihood.

python -m lit_vdistill fit --config configs/rmsd.yaml
python -m experiments.discriminator --run runs/rmsd --json experiments/discriminator.json

The student of a run answers held-out questions. Accuracy: how often D of a teacher response is
above D of the rollout it is matched to (R-MSD Eqs. 3-4), ties left out; the teacher is the world's
simulated one. Correlation: of D with the true quality of rollouts among siblings, each group
centred; open-ended tasks by the facts that are stated. Beside it stand what a discriminator
should beat: the length of a rollout, shorter first, and its mean log-probability under the stage-1
student.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import get_args

import torch
from transformers import PreTrainedModel, ProcessorMixin

from experiments.bootstrap import error_over_videos
from experiments.students import STAGE1, Answered, Student
from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.models.discriminator import Discriminator, ReadOut
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.tokens import response_ids
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.pool.matching import MatchingConfig
from lit_vdistill.pool.quality import score_responses
from lit_vdistill.rewards import graded_quality
from lit_vdistill.stages.matches import match_teachers, pairs_of
from lit_vdistill.stages.rmsd import DiscriminatorConfig
from lit_vdistill.stages.step import Experience
from lit_vdistill.types import Rollout, RolloutGroup
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.scenes import Scene, Split, scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher

DETECTORS = ("discriminator", "shorter", "likelihood")
"""What is correlated with quality, by column."""
POOL_SIZE = 4
"""Teacher responses to a question, K of R-MSD §4.1.3."""


@dataclass(frozen=True, slots=True)
class JudgedGroup:
    """The answers to one question, and what is thought of each."""

    task: str
    video: str
    quality: tuple[float, ...]
    """True quality of each answer, in [0, 1]."""
    scores: Mapping[str, tuple[float, ...]]
    """By detector; higher = thought better."""
    pairs: tuple[float, ...]
    """D of the matched teacher response less D of the answer, where the two differ."""


def correlation(groups: Sequence[JudgedGroup], detector: str) -> float:
    """Pearson correlation of a detector with quality over all answers, both centred by group.

    NaN where qualities or scores do not vary within any group.
    """
    xs, ys = [], []
    for group in groups:
        xs += _centred(group.scores[detector])
        ys += _centred(group.quality)
    spread = (sum(x * x for x in xs) * sum(y * y for y in ys)) ** 0.5
    return sum(x * y for x, y in zip(xs, ys, strict=True)) / spread if spread else float("nan")


def accuracy(groups: Sequence[JudgedGroup]) -> float:
    """Share of pairs in which the teacher is scored higher, a tie half; NaN without pairs."""
    gaps = [gap for group in groups for gap in group.pairs]
    return statistics.fmean(((gap > 0) + (gap >= 0)) / 2 for gap in gaps) if gaps else float("nan")


def _centred(values: Sequence[float]) -> list[float]:
    mean = statistics.fmean(values)
    return [value - mean for value in values]


@dataclass(frozen=True, slots=True)
class Critics:
    """The networks that judge."""

    discriminator: Discriminator
    stage1: PreTrainedModel
    processor: ProcessorMixin

    @classmethod
    def load(
        cls, run: Path, stage1: str, processor: ProcessorMixin, read_out: ReadOut
    ) -> "Critics":
        """The discriminator of a run's last checkpoint, and the stage-1 student.

        Args:
            run: Its folder.
            stage1: The student that it began with.
            processor: The student's.
            read_out: The run's `model.disc.read_out`.

        Raises:
            ValueError: For a run without a discriminator.
        """
        path = run / "checkpoints" / "last.ckpt"
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        prefix = "discriminator."
        kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not kept:
            raise ValueError(f"{path} holds no discriminator; name a run of configs/rmsd.yaml")
        discriminator = Discriminator(load_model(VLMConfig(stage1)), read_out)
        discriminator.load_state_dict(kept)
        return cls(discriminator.eval(), load_model(VLMConfig(stage1)).eval(), processor)

    @torch.no_grad()
    def judge(self, answered: Answered, config: WorldConfig) -> list[JudgedGroup]:
        """What they think of a batch of answers, beside the truth."""
        batch, drawn = answered
        experience = with_teachers(batch, drawn, config)
        opinions, gaps = self._opinions(experience)
        prompts = encode_vision(self.stage1.model, _unseen(batch))
        likely = completion_logprobs(self.stage1, prompts, experience.rows)
        means = (likely.logprobs.sum(dim=1) / likely.mask.sum(dim=1)).tolist()
        found = []
        for i, group in enumerate(experience.groups):
            rollouts = group.rollouts
            place = slice(i * len(rollouts), (i + 1) * len(rollouts))
            scores = {
                "discriminator": tuple(opinions[place]),
                "shorter": tuple(-float(len(r.completion_ids)) for r in rollouts),
                "likelihood": tuple(means[place]),
            }
            quality = tuple(graded_quality(r.text, group.sample) for r in rollouts)
            task, video = str(group.sample.task), str(group.sample.media)
            found.append(JudgedGroup(task, video, quality, scores, tuple(gaps[i])))
        return found

    def _opinions(self, experience: Experience) -> tuple[list[float], dict[int, list[float]]]:
        """D of every rollout, and by group how far the matched teachers are above theirs."""
        matches = match_teachers(experience, MatchingConfig(), seed=0, step=0)
        pairs = pairs_of(experience, matches)
        rows = [
            Row(i, self._ids(rollout.text, is_complete=not rollout.is_truncated))
            for i, group in enumerate(experience.groups)
            for rollout in group.rollouts
        ]
        size = len(rows) // len(experience.groups)
        for pair in pairs:
            match = matches[pair.group]
            assert match is not None
            rows.append(Row(pair.group, self._ids(match.responses[pair.response].response.text)))
        prompts = encode_vision(self.discriminator.backbone, _unseen(experience.batch))
        scores = self.discriminator(prompts, rows).tolist()
        gaps: dict[int, list[float]] = defaultdict(list)
        for pair, teacher in zip(pairs, scores[len(experience.rollouts) :], strict=True):
            gap = teacher - scores[pair.group * size + pair.rollout]
            gaps[pair.group] += [gap] if gap else []
        return scores[: len(experience.rollouts)], gaps

    def _ids(self, text: str, is_complete: bool = True) -> tuple[int, ...]:
        return response_ids(self.processor, text, is_complete=is_complete)


def _unseen(batch: PromptBatch) -> list[EncodedPrompt]:
    """For a network with weights of its own in the tower."""
    return [replace(prompt, features=None) for prompt in batch.prompts]


def with_teachers(
    batch: PromptBatch, drawn: Sequence[tuple[Rollout, ...]], config: WorldConfig
) -> Experience:
    """The answers with a simulated pool a question, as if they were trained on."""
    teacher, known = SimulatedTeacher(config), _held_out(config)
    items = []
    for item in batch.items:
        scene = known[str(item.sample.meta["scene"])]
        pool = score_responses(item.sample, teacher.respond(item.sample, scene, POOL_SIZE))
        items.append(replace(item, pool=pool))
    groups = [RolloutGroup(i.sample, rollouts) for i, rollouts in zip(items, drawn, strict=True)]
    return Experience(PromptBatch(tuple(items)), tuple(groups), ())


@cache
def _held_out(config: WorldConfig) -> Mapping[str, Scene]:
    """Scenes on which nothing was trained, by id."""
    splits: tuple[Split, ...] = ("val", "test")
    return {scene.id: scene for split in splits for scene in scenes(split, config)}


def report(groups: Sequence[JudgedGroup]) -> dict[str, dict[str, float]]:
    """By task and in all: accuracy, and each detector's correlation with its standard error."""
    parts = {"all": list(groups)}
    for group in groups:
        parts.setdefault(group.task, []).append(group)
    found: dict[str, dict[str, float]] = {}
    for name, members in parts.items():
        found[name] = {"accuracy": accuracy(members), "pairs": sum(len(g.pairs) for g in members)}
        for detector in DETECTORS:
            found[name][detector] = correlation(members, detector)
            error = error_over_videos(members, partial(correlation, detector=detector))
            found[name][f"{detector}_error"] = error
    return found


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The report in Markdown."""
    lines = ["| task | accuracy (pairs) | " + " | ".join(DETECTORS) + " |"]
    lines.append("|---|---|" + "---|" * len(DETECTORS))
    for name, row in found.items():
        cells = [f"{row[d]:+.2f} ± {row[f'{d}_error']:.2f}" for d in DETECTORS]
        share = f"{row['accuracy']:.2f} ({row['pairs']:.0f})"
        lines.append(f"| {name} | {share} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Sample, judge and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("runs/rmsd"), help="a run of rmsd.yaml")
    parser.add_argument("--stage1", default=STAGE1, help="the student it began with")
    read_outs, default = get_args(ReadOut), DiscriminatorConfig().read_out
    parser.add_argument("--read_out", default=default, choices=read_outs, help="of the run")
    parser.add_argument("--world", default="runs/world", help="rendered with its default size")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--rollouts", type=int, default=8, help="answers to each question")
    parser.add_argument("--questions", type=int, help="only so many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    student = Student.load(str(args.run / "student"), args.world, args.split)
    critics = Critics.load(args.run, args.stage1, student.processor, args.read_out)
    answered = student.answers(student.data.val_set, args.rollouts, args.seed, args.questions)
    found = report([group for part in answered for group in critics.judge(part, WorldConfig())])
    sys.stdout.write("\n" + table(found) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
