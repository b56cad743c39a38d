"""Schedules as functions of the optimizer step."""

import math
from typing import Literal

Decay = Literal["cosine", "linear", "constant"]


def linear(step: int, start: float, end: float, num_steps: int) -> float:
    """From `start` at step 0 to `end` at `num_steps`, and `end` from there on."""
    return end if step >= num_steps else start + (end - start) * step / num_steps


def learning_rate_factor(step: int, total_steps: int, warmup_ratio: float, decay: Decay) -> float:
    """Factor on the peak learning rate: linear warm-up, then cosine or straight to 0, or constant.

    R-MSD names no schedule; cosine with 3 % warm-up is what its data's authors use.

    Args:
        step: 0-based optimizer step.
        total_steps: Length of the run in optimizer steps.
        warmup_ratio: Share of the run over which the rate rises.
        decay: What follows the warm-up.
    """
    warmup_steps = math.ceil(warmup_ratio * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if decay == "constant":
        return 1.0
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    if decay == "linear":
        return 1.0 - progress
    return 0.5 * (1 + math.cos(math.pi * progress))
