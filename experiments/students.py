"""Students on the embedded world: their answers to its questions, and how good each answer is."""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import Subset
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.data.batch import Item, PromptBatch
from lit_vdistill.data.datamodule import SourceConfig, VideoDistillDataModule
from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.media.video import FrameConfig
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.readers.records import BadSample
from lit_vdistill.rewards import (
    Content,
    OuterFormat,
    TaskFormat,
    graded_quality,
    reward_breakdown,
    rule_score,
)
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.types import Rollout, VideoSample
from lit_vdistill.world.scenes import FRAME_PX, NUM_FRAMES, Split

STAGE1 = "experiments/stage1/student"
"""The stage-1 student that lies in the repository."""
SAMPLING = SamplingConfig(max_completion_tokens=96)
REWARDS = (OuterFormat(0.1), TaskFormat(0.1), Content(0.4))
"""The rules of R-MSD Eq. 6, as configs/rmsd.yaml weighs them."""
BATCH = 24
"""Prompts that go through the network at a time."""
Questions = PromptDataset | Subset[Item | BadSample]
Answered = tuple[PromptBatch, list[tuple[Rollout, ...]]]
"""Prompts that the student has looked at, and its answers to each."""


@dataclass(frozen=True, slots=True)
class Graded:
    """How good a student's answers to a question are; open-ended ones by the facts they state."""

    sample: VideoSample
    """Boxes in the units of the text."""
    greedy: float
    """Of the greedy answer, in [0, 1]."""
    mean: float
    """Averaged over the sampled answers: mean@8 where there are eight."""
    reward: float
    """Rule rewards of the sampled answers as a share of their maximum, averaged; NaN where no rule
    pays."""
    best: float
    """Of the best sampled answer: pass@8 where there are eight, each right or wrong."""

    @property
    def video(self) -> str:
        """What the question is about: answers about one video are not independent."""
        return str(self.sample.media)


@dataclass(frozen=True, slots=True)
class Student:
    """An exported student in memory, with questions to ask."""

    model: PreTrainedModel
    processor: ProcessorMixin
    data: VideoDistillDataModule

    @classmethod
    def load(
        cls, folder: str, world: str, split: Split = "val", pool: str | None = None
    ) -> "Student":
        """A student from its folder, with the world whose questions it is asked.

        Args:
            folder: Of the export.
            world: Of the embedded world.
            split: Held-out questions, `data.val_set`.
            pool: File of teacher responses to the training questions, `data.train_set`.
        """
        files = (f"{world}/train.jsonl", f"{world}/{split}.jsonl", world, pool)
        sources = SourceConfig(*files, cache_dir="runs/frames")
        frames = FrameConfig(max_frames=NUM_FRAMES, max_pixels=FRAME_PX**2)
        data = VideoDistillDataModule(folder, sources, frames, PromptConfig("short", "pixels"))
        data.setup("fit")
        return cls(load_model(VLMConfig(folder)).eval(), data.processor, data)

    def answers(
        self, questions: Questions, num_rollouts: int, seed: int, limit: int | None = None
    ) -> Iterator[Answered]:
        """Batches of questions, each with its answers.

        Args:
            questions: Of a split, `data.train_set` or `data.val_set`, or some of them.
            num_rollouts: Answers to each question, sampled at temperature 1.
            seed: Of the draws.
            limit: Questions; None = all.

        Raises:
            ValueError: For a question whose video cannot be read.
        """
        engine = HFRolloutEngine(self.model, self.processor)
        for batch in self._batches(questions, limit):
            yield batch, engine.generate(batch.prompts, num_rollouts, SAMPLING, seed=seed)

    def graded(self, num_rollouts: int, seed: int, limit: int | None = None) -> Iterator[Graded]:
        """The greedy answer and sampled ones to every held-out question, graded.

        Args:
            num_rollouts: Sampled answers to each question, at temperature 1; 0 for none.
            seed: Of the draws.
            limit: Questions; None = all.
        """
        engine = HFRolloutEngine(self.model, self.processor)
        for batch in self._batches(self.data.val_set, limit):
            greedy = engine.generate(batch.prompts, 1, replace(SAMPLING, temperature=0.0), seed=0)
            drawn = [()] * len(batch.items)
            if num_rollouts:
                drawn = engine.generate(batch.prompts, num_rollouts, SAMPLING, seed=seed)
            for item, (best,), rollouts in zip(batch.items, greedy, drawn, strict=True):
                sample = item.sample
                yield Graded(
                    sample,
                    greedy=graded_quality(best.text, sample),
                    mean=_mean(rollouts, lambda r, s=sample: graded_quality(r.text, s)),
                    reward=_mean(rollouts, lambda r, s=sample: _reward(r, s)),
                    best=max(
                        (graded_quality(r.text, sample) for r in rollouts), default=float("nan")
                    ),
                )

    def _batches(self, questions: Questions, limit: int | None) -> Iterator[PromptBatch]:
        count = min(len(questions), limit or len(questions))
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count)
            batch = PromptBatch(tuple(_readable(questions[i]) for i in range(first, last)))
            with torch.no_grad():
                seen = encode_vision(self.model.model, batch.prompts)
            yield batch.with_prompts(seen)
            sys.stderr.write(f"\r{last} of {count} questions")


def _reward(rollout: Rollout, sample: VideoSample) -> float:
    share = rule_score(REWARDS, reward_breakdown(REWARDS, rollout, sample), sample)
    return float("nan") if share is None else share


def _mean(rollouts: Sequence[Rollout], grade: Callable[[Rollout], float]) -> float:
    return statistics.mean(map(grade, rollouts)) if rollouts else float("nan")


def _readable(item: Item | BadSample) -> Item:
    if isinstance(item, BadSample):
        raise ValueError(f"a question of the world cannot be read: {item}")
    return item
