"""What a rollout engine is asked for and what it promises."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.shared_media import by_medium, common_length
from lit_vdistill.types import Rollout


@runtime_checkable
class RolloutEngine(Protocol):
    """Samples completions of prompts from the current policy."""

    def is_apart(self) -> bool:
        """Whether it has weights and a tower of its own.

        Then prompts keep their pixels for it, and `synchronise` has to be called.
        """
        ...

    def synchronise(self) -> None:
        """The policy's weights have changed: sample from the present ones from here on.

        A collective of all processes.
        """
        ...

    def likely_cause(self, prompts: Sequence[EncodedPrompt]) -> str:
        """Why what it has drawn may not be the policy's own; a collective.

        Args:
            prompts: Some that it was asked, with their pixels where it is apart.
        """
        ...

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: "SamplingConfig",
        *,
        seed: int,
    ) -> list[tuple[Rollout, ...]]:
        """Sample `num_rollouts` completions of every prompt.

        What is drawn for a prompt depends on the weights, the prompt, its sample id, the rollout's
        index and the seed, not on what else is in the batch.
        """
        ...


@runtime_checkable
class BackgroundEngine(RolloutEngine, Protocol):
    """One that can draw while something else is done."""

    def begin(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: "SamplingConfig",
        *,
        seed: int,
    ) -> Any:
        """As `generate`, without waiting for it.

        Returns:
            What `finish` is to be given, once.
        """
        ...

    def finish(self, drawing: Any) -> list[tuple[Rollout, ...]]:
        """Wait for what `begin` has begun; a collective."""
        ...


MakeEngine = Callable[[PreTrainedModel, ProcessorMixin], RolloutEngine]
"""An engine's class, with what else it is told."""


@dataclass(frozen=True)
class SamplingConfig:
    """How completions are drawn."""

    max_completion_tokens: int = 768
    """A completion that reaches it without an end of sequence is truncated."""
    temperature: float = 1.0
    """0 = greedy. R-MSD names none for students; 1 keeps the sampled and the trained policy one."""
    top_p: float = 1.0
    """Nucleus: draw from the smallest set of tokens whose probabilities reach it."""
    top_k: int = 0
    """Draw from so many of the most probable tokens, of which the nucleus is taken; 0 = from all.
    Log-probabilities stay those of temperature 1 over all tokens."""
    max_tokens: int = 65536
    """Tokens that a process holds while it samples: prompts and, for each rollout, its longest
    completion. More prompts are sampled in turns, which changes nothing that is drawn."""
    engine: MakeEngine | None = None
    """Who draws: null is the training network itself, in its process; `VLLMRolloutEngine` is a vLLM
    server (`rollouts/README.md`)."""
    overlap: int = 0
    """1: an engine of its own draws the next window while this one trains, from weights that are a
    window older; `loss.mismatch` weighs that."""
    seed: int = 0
    """Seed of everything that is drawn; with sample, rollout and step it fixes a draw."""

    def __post_init__(self) -> None:
        """Refuse what draws nothing.

        Raises:
            ValueError: Names the value.
        """
        bounds = {
            "max_completion_tokens": (self.max_completion_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < math.inf, "0 (greedy) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "overlap": (self.overlap in (0, 1), "0 or 1"),
        }
        for name, (is_within, expected) in bounds.items():
            if not is_within:
                raise ValueError(f"sampling.{name} is {getattr(self, name)}, expected {expected}")
        if self.overlap and self.engine is None:
            raise ValueError(
                "sampling.overlap 1 needs an engine of its own: name one, model.sampling.engine, "
                "e.g. by --config configs/rollouts/vllm.yaml"
            )


def token_turns(costs: Sequence[int], bound: int) -> list[slice]:
    """Cut items into turns, in order, as few as a bound on the cost of each turn allows.

    An item beyond the bound is a turn of its own: whether it may be is for the caller to say.

    Args:
        costs: Tokens of each item.
        bound: Tokens that a turn may hold.
    """
    turns: list[slice] = []
    held = 0
    for index, cost in enumerate(costs):
        if turns and held + cost <= bound:
            turns[-1] = slice(turns[-1].start, index + 1)
            held += cost
        else:
            turns.append(slice(index, index + 1))
            held = cost
    return turns


def rollout_turns(
    prompts: Sequence[EncodedPrompt], num_rollouts: int, sampling: SamplingConfig
) -> list[list[int]]:
    """Indices of the prompts that are sampled together; see `medium_turns`.

    Raises:
        ValueError: For a prompt whose group alone is beyond `sampling.max_tokens`.
    """
    for prompt in prompts:
        check_rollouts(len(prompt.input_ids), num_rollouts, sampling, prompt.sample_id)
    longest = num_rollouts * sampling.max_completion_tokens
    return medium_turns(prompts, longest, sampling.max_tokens)


def medium_turns(prompts: Sequence[EncodedPrompt], behind: int, bound: int) -> list[list[int]]:
    """Indices of the prompts that are run together, those about one medium side by side.

    They are in one turn where they fit into one, and the tokens that they share then count once.

    Args:
        prompts: In any order; turns come in that of the media's first prompts.
        behind: Tokens that each prompt is followed by.
        bound: Tokens that a turn may hold; a prompt beyond it is a turn of its own.
    """
    units: list[list[int]] = []
    costs: list[int] = []
    for members in by_medium(prompts):
        is_alone = len(members) == 1
        shared = 0 if is_alone else common_length([prompts[i] for i in members])
        own = [len(prompts[i].input_ids) - shared + behind for i in members]
        for part in token_turns(own, bound - shared):
            units.append(members[part])
            costs.append(shared + sum(own[part]))
    # Within a turn media with equally many questions are neighbours: decoding makes them a block.
    turns = [sorted(units[turn], key=len) for turn in token_turns(costs, bound)]
    return [[i for unit in turn for i in unit] for turn in turns]


def check_rollouts(
    prompt_tokens: int, num_rollouts: int, sampling: SamplingConfig, sample_id: str | None = None
) -> None:
    """Refuse a group that is beyond the bound alone.

    Args:
        prompt_tokens: Of its prompt.
        num_rollouts: Of the group.
        sampling: With the bound.
        sample_id: Whose it is; None = the longest prompt that there can be.

    Raises:
        ValueError: Names what would fit.
    """
    cost = prompt_tokens + num_rollouts * sampling.max_completion_tokens
    if cost > sampling.max_tokens:
        whose = "" if sample_id is None else f"sample {sample_id}: "
        raise ValueError(
            f"{whose}a prompt of {prompt_tokens} tokens and {num_rollouts} rollouts of up to "
            f"{sampling.max_completion_tokens} are {cost} tokens, but sampling.max_tokens is "
            f"{sampling.max_tokens}; raise it to {cost}, or draw fewer (group_size, num_samples) "
            "or shorter (sampling.max_completion_tokens) rollouts"
        )


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
