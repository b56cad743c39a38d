"""Whole optimizer steps of the stages, each under Lightning's trainer."""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from callbacks import EMATeacherUpdate
from experiments.speed.measure import synchronize
from experiments.speed.networks import PATH, QUESTION, Arena, short_prompts
from lit_vdistill.data.batch import Item, PromptBatch
from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.responses.grammar import ParsedResponse
from lit_vdistill.rewards import Content, OuterFormat, Reward, TaskFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.on_policy import OnPolicyModule, PolicyLossConfig
from lit_vdistill.stages.opd import OPDModule
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.rmsd import DiscriminatorConfig, RMSDModule
from lit_vdistill.stages.visd import VISDModule
from lit_vdistill.tasks import Task
from lit_vdistill.types import Evidence, ScoredResponse, TeacherResponse, VideoSample

TEACHERS = 4
"""Teacher responses that the discriminator scores beside the rollouts, K of R-MSD."""
NUM_STEPS = 3
"""Of a run in which steps are measured; the first does not count."""
WINDOW_ROLLOUTS, PIECE_PROMPTS = 4, 8
"""Rollouts a prompt of a window, and how many prompts a piece of it has."""


@dataclass
class Fit:
    """A run of a stage, start and end included; each call is a new one with the same networks."""

    stage: OnPolicyModule
    batch: PromptBatch
    num_pieces: int = 1
    num_steps: int = 1
    callbacks: tuple[Callback, ...] = ()

    def __call__(self) -> list[float]:
        """Seconds of each of its steps, sampling included."""
        pieces, times = self.num_pieces, StepTimes()
        turns = [
            WindowTurn(self.batch, piece=piece, num_pieces=pieces)
            for _ in range(self.num_steps)
            for piece in range(pieces)
        ]
        trainer = Trainer(
            accelerator="auto", devices=1, max_steps=self.num_steps, gradient_clip_val=1.0,
            accumulate_grad_batches=pieces, callbacks=[*self.callbacks, times], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(self.stage, DataLoader(turns, batch_size=None))  # type: ignore[arg-type]
        return times.seconds

    def of(self, num_steps: int) -> "Fit":
        """The same with another number of steps."""
        return replace(self, num_steps=num_steps)

    @property
    def tokens(self) -> int:
        """Prompt tokens, once each, and completion tokens of the last step."""
        assert self.stage.last_step is not None
        experience = self.stage.last_step.experience
        completions = sum(len(rollout.completion_ids) for rollout in experience.rollouts)
        return completions + sum(len(p.input_ids) for p in experience.batch.prompts)

    @property
    def input_bytes(self) -> int:
        """Of the pixels that exist before a step."""
        held = [prompt.pixels for prompt in self.batch.prompts if prompt.pixels is not None]
        return sum(pixels.numel() * pixels.element_size() for pixels in held)


def grpo(arena: Arena) -> Fit:
    """GRPO without KL, so without a reference."""
    loss = PolicyLossConfig(group_size=arena.num_rollouts, kl_coef=0.0)
    torch.manual_seed(0)
    stage = OnPolicyModule(VLMConfig(arena.path), [Varied()], loss=loss, sampling=_sampling(arena))
    return Fit(stage, _batch(arena))


def rmsd(arena: Arena) -> Fit:
    """R-MSD behind its warm-up: reference, and a discriminator on rollouts and teachers."""
    torch.manual_seed(0)
    stage = RMSDModule(
        VLMConfig(arena.path),
        [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)],
        disc=DiscriminatorConfig(warmup_max_steps=0),
        loss=PolicyLossConfig(group_size=arena.num_rollouts),
        sampling=_sampling(arena),
    )
    return Fit(stage, _batch(arena))


def visd(arena: Arena) -> Fit:
    """VISD with the rule judge; all rollouts are replayed, and the teacher moves."""
    torch.manual_seed(0)
    stage = VISDModule(
        VLMConfig(arena.path),
        [Varied()],
        loss=PolicyLossConfig(group_size=arena.num_rollouts, kl_coef=0.0),
        sampling=_sampling(arena),
    )
    return Fit(stage, _batch(arena), callbacks=(EMATeacherUpdate(),))


def opd(arena: Arena) -> Fit:
    """On-policy distillation from a teacher of the same size, on the whole vocabulary."""
    torch.manual_seed(0)
    config = VLMConfig(arena.path)
    loss = PolicyLossConfig(group_size=arena.num_rollouts, kl_coef=0.0)
    stage = OPDModule(config, [Varied()], config, loss=loss, sampling=_sampling(arena))
    return Fit(stage, _batch(arena))


def window(num_prompts: int, num_tokens: int, path: str = PATH) -> Fit:
    """GRPO on a window of short prompts, as many pieces as a fixed bound makes."""
    prompts = short_prompts(num_prompts, path)
    bound = PIECE_PROMPTS * (len(prompts[0].input_ids) + WINDOW_ROLLOUTS * num_tokens)
    torch.manual_seed(0)
    stage = OnPolicyModule(
        VLMConfig(path, freeze_vision=True),
        [Varied()],
        loss=PolicyLossConfig(group_size=WINDOW_ROLLOUTS, kl_coef=0.0),
        sampling=SamplingConfig(max_completion_tokens=num_tokens, max_tokens=bound),
        optim=OptimConfig(max_tokens=bound),
    )
    batch = PromptBatch(tuple(_item(prompt, []) for prompt in prompts))
    return Fit(stage, batch, num_pieces=-(-num_prompts // PIECE_PROMPTS))


class StepTimes(Callback):
    """Seconds of each optimizer step, from its first piece's start to its last one's end."""

    def __init__(self) -> None:
        """Nothing is measured yet."""
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A piece begins."""
        if batch.is_first:
            synchronize()
            self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A piece ends, the optimizer's step with the last one."""
        if batch.is_last:
            synchronize()
            self.seconds.append(time.perf_counter() - self._began)


class Varied(Reward):
    """A reward in which any two rollouts differ, so that every advantage counts."""

    name = "varied"

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """A checksum of the tokens."""
        assert response.rollout is not None
        return zlib.crc32(repr(response.rollout.completion_ids).encode()) / 2**32


def _sampling(arena: Arena) -> SamplingConfig:
    return SamplingConfig(max_completion_tokens=arena.num_tokens)


def _batch(arena: Arena) -> PromptBatch:
    """The arena's prompt, with teacher responses as long as its rollouts."""
    length, tokenizer = arena.num_tokens, arena.processor.tokenizer
    texts = [tokenizer.decode(ids[: length - 1]) for ids in arena.completions]
    return PromptBatch((_item(arena.prompt, texts[:TEACHERS]),))


def _item(prompt: EncodedPrompt, texts: Sequence[str]) -> Item:
    sample = VideoSample(
        prompt.sample_id, Task.TEMPORAL_GROUNDING, QUESTION, "", "v.mp4",
        evidence=Evidence(((1.0, 2.0),)),
    )  # fmt: skip
    pool = [TeacherResponse(sample.id, k, text, "none", 1.0, 1.0) for k, text in enumerate(texts)]
    return Item(sample, prompt, tuple(ScoredResponse(response, 1.0) for response in pool))
