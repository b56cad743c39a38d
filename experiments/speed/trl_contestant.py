"""TRL's GRPO trainer on the same network, prompt length, rollouts and update.

TRL takes no video, so it gets one image for every two frames: as many prompt tokens.
"""

import tempfile
from collections.abc import Callable
from copy import deepcopy

from datasets import Dataset
from PIL import Image
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from experiments.speed.networks import QUESTION, Arena


def trl_step(arena: Arena) -> Callable[[], object]:
    """One step of `GRPOTrainer`, start and end of the run included."""
    images = [Image.fromarray(frame) for frame in arena.frames[::2]]
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": QUESTION}]
    row = {"prompt": [{"role": "user", "content": content}], "images": images}
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=arena.num_rollouts,
        num_generations=arena.num_rollouts,
        max_completion_length=arena.num_tokens,
        max_steps=1,
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
    return trainer.train


def _reward(completions: list, **_: object) -> list[float]:
    return [float(len(str(completion))) for completion in completions]
