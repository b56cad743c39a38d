"""What a rollout engine is asked for and what it promises."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.types import Rollout


@dataclass(frozen=True)
class SamplingConfig:
    """How completions are drawn."""

    max_completion_tokens: int = 768
    """A completion that reaches it without an end of sequence is truncated."""
    temperature: float = 1.0
    """0 = greedy. R-MSD names none for students; 1 keeps the sampled and the trained policy one."""
    top_p: float = 1.0
    """Nucleus: draw from the smallest set of tokens whose probabilities reach it."""
    seed: int = 0
    """Seed of everything that is drawn; with sample, rollout and step it fixes a draw."""


class RolloutEngine(Protocol):
    """Samples completions of prompts from the current policy."""

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: SamplingConfig,
        *,
        seed: int,
    ) -> list[tuple[Rollout, ...]]:
        """Sample `num_rollouts` completions of every prompt.

        What is drawn for a prompt depends on the weights, the prompt, its sample id, the rollout's
        index and the seed, not on what else is in the batch.
        """
        ...


def rollout_uniforms(
    seed: int, sample_id: str, num_rollouts: int, num_tokens: int
) -> Float[Tensor, "group seq"]:
    """The random numbers in [0, 1) of one group, float64: one a token, a stream a rollout."""
    streams = []
    for index in range(num_rollouts):
        key = f"{seed}\x1f{sample_id}\x1f{index}".encode()
        state = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
        generator = torch.Generator().manual_seed(state)
        streams.append(torch.rand(num_tokens, generator=generator, dtype=torch.float64))
    return torch.stack(streams)
