"""A student's sampled answers to questions of the embedded world."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.data.datamodule import SourceConfig, VideoDistillDataModule
from lit_vdistill.data.dataset import Item, PromptBatch, PromptConfig, PromptDataset
from lit_vdistill.media.video import FrameConfig
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.readers.records import BadSample
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.types import Rollout

SAMPLING = SamplingConfig(max_completion_tokens=80)
BATCH = 24
"""Prompts that go through the network at a time."""
Answered = tuple[PromptBatch, list[tuple[Rollout, ...]]]
"""Prompts that the student has looked at, and its answers to each."""


@dataclass(frozen=True, slots=True)
class Student:
    """An exported student in memory."""

    model: PreTrainedModel
    processor: ProcessorMixin
    data: VideoDistillDataModule

    @classmethod
    def load(cls, folder: str, world: str) -> "Student":
        """A student from its folder, with the world whose questions it is asked."""
        sources = SourceConfig(f"{world}/train.jsonl", f"{world}/val.jsonl", world)
        frames = FrameConfig(num_frames=16, max_pixels=4096)
        data = VideoDistillDataModule(folder, sources, frames, PromptConfig(template="short"))
        data.setup("fit")
        return cls(load_model(VLMConfig(folder)).eval(), data.processor, data)

    def answers(
        self, questions: PromptDataset, num_rollouts: int, seed: int, limit: int | None = None
    ) -> Iterator[Answered]:
        """Batches of questions, each with its answers.

        Args:
            questions: Of a split, `data.train_set` or `data.val_set`.
            num_rollouts: Answers to each question, sampled at temperature 1.
            seed: Of the draws.
            limit: Questions; None = all.

        Raises:
            ValueError: For a question whose video cannot be read.
        """
        engine = HFRolloutEngine(self.model, self.processor)
        count = min(len(questions), limit or len(questions))
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count)
            batch = PromptBatch(tuple(_readable(questions[i]) for i in range(first, last)))
            batch = batch.with_prompts(encode_vision(self.model.model, batch.prompts))
            yield batch, engine.generate(batch.prompts, num_rollouts, SAMPLING, seed=seed)
            sys.stderr.write(f"\r{last} of {count} questions")


def _readable(item: Item | BadSample) -> Item:
    if isinstance(item, BadSample):
        raise ValueError(f"a question of the world cannot be read: {item}")
    return item
