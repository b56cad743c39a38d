"""What one step of a reinforcement stage hands on from part to part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lit_vdistill.data.dataset import PromptBatch
from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.logprobs import TokenScores
from lit_vdistill.types import Rollout, RolloutGroup


@dataclass(frozen=True, slots=True)
class SampledStep:
    """The rollouts of one step with their rule rewards."""

    batch: PromptBatch
    groups: tuple[RolloutGroup, ...]
    breakdowns: tuple[tuple[Mapping[str, float], ...], ...]
    """Unweighted rule rewards, by prompt, rollout and name."""

    @property
    def rollouts(self) -> list[Rollout]:
        """All rollouts, group after group."""
        return [rollout for group in self.groups for rollout in group.rollouts]


@dataclass(frozen=True, slots=True)
class GroupScores:
    """What a stage makes of sampled groups."""

    rewards: Float[Tensor, "batch group"]
    """Total rewards, detached."""
    auxiliary_loss: Float[Tensor, ""] | None = None
    """Loss of further networks, over parameters that the policy loss does not touch."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """To be logged."""
    columns: Mapping[str, Sequence[Sequence[str | float]]] = field(default_factory=dict)
    """More columns of the table of rollouts, by prompt and rollout."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One training step as observers see it."""

    step: int
    sampled: SampledStep
    scores: GroupScores
    advantages: Float[Tensor, "batch group"]


class PendingCredit:
    """How much of its rollout's advantage each token gets; as it stands, all of it.

    Made before the policy's forward pass, so that slow work may run beside it.
    """

    def chosen_ids(self, states: CompletionStates) -> Int[Tensor, "rows seq chosen"] | None:
        """Ids whose log-probabilities `weigh` needs of the policy, once its states are there."""
        return None

    def weigh(self, scores: TokenScores) -> tuple[Float[Tensor, "rows seq"], dict[str, float]]:
        """Factor on each token's advantage, and what to log."""
        return torch.ones_like(scores.logprobs), {}
