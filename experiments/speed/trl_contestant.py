"""TRL's GRPO trainer on the same network, prompt length, rollouts and update.

TRL takes no video, so it gets one image for every two frames: as many prompt tokens.
"""

import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from datasets import Dataset
from PIL import Image
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from experiments.speed.measure import synchronize
from experiments.speed.networks import QUESTION, Arena


def trl_fit(arena: Arena, num_steps: int) -> Callable[[], list[float]]:
    """Steps of `GRPOTrainer`; returns the seconds of each, sampling included."""
    images = [Image.fromarray(frame) for frame in arena.frames[::2]]
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": QUESTION}]
    row = {"prompt": [{"role": "user", "content": content}], "images": images}
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=arena.num_rollouts,
        num_generations=arena.num_rollouts,
        max_completion_length=arena.num_tokens,
        max_steps=num_steps,
        learning_rate=2e-6,
        beta=0.0,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=deepcopy(arena.stock),
        processing_class=arena.processor,
        reward_funcs=_reward,
        args=config,
        train_dataset=Dataset.from_list([row]),
    )
    trainer.remove_callback(PrinterCallback)
    times = _StepTimes()
    trainer.add_callback(times)

    def run() -> list[float]:
        times.seconds = []
        trainer.train()
        return times.seconds

    return run


class _StepTimes(TrainerCallback):
    """What `steps.StepTimes` is under Lightning."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Its only piece begins."""
        synchronize()
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """The optimizer has stepped."""
        synchronize()
        self.seconds.append(time.perf_counter() - self._began)


def _reward(completions: list, **_: object) -> list[float]:
    return [float(len(str(completion))) for completion in completions]
