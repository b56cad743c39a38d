"""What an optimizer step is made of, and what its parts hand on to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.models.layout import Row
from lit_vdistill.stages.method import TokenMethod
from lit_vdistill.stages.off_policy import FirstScores
from lit_vdistill.types import Rollout, RolloutGroup

Columns = Mapping[str, Sequence[Sequence[str | float]]]
"""More columns of the table of rollouts, by name, prompt and rollout."""


@dataclass(frozen=True, slots=True)
class Experience:
    """Whole groups of rollouts with their rule rewards."""

    batch: PromptBatch
    groups: tuple[RolloutGroup, ...]
    breakdowns: tuple[tuple[Mapping[str, float], ...], ...]
    """Unweighted rule rewards, by prompt, rollout and name."""
    weights: tuple[float, ...] = ()
    """1 for each group that is trained on, 0 for one that only keeps processes in step or that
    has no signal; empty = all 1."""

    @property
    def rollouts(self) -> list[Rollout]:
        """All rollouts, group after group."""
        return [rollout for group in self.groups for rollout in group.rollouts]

    @property
    def rows(self) -> list[Row]:
        """The same, each behind its prompt."""
        return [
            Row(i, rollout.completion_ids)
            for i, group in enumerate(self.groups)
            for rollout in group.rollouts
        ]

    @property
    def group_weights(self) -> tuple[float, ...]:
        """The weight of each group."""
        return self.weights or (1.0,) * len(self.groups)

    def row_weights(self, device: torch.device) -> Float[Tensor, " rows"] | None:
        """The weight of each rollout; None = all 1."""
        if not self.weights:
            return None
        pairs = zip(self.groups, self.weights, strict=True)
        each = [weight for group, weight in pairs for _ in group.rollouts]
        return torch.tensor(each, device=device, dtype=torch.float32)

    def part(self, indices: Sequence[int]) -> "Experience":
        """Some of the groups."""
        items = tuple(self.batch.items[i] for i in indices)
        return Experience(
            PromptBatch(items),
            tuple(self.groups[i] for i in indices),
            tuple(self.breakdowns[i] for i in indices),
            tuple(self.group_weights[i] for i in indices) if self.weights else (),
        )

    def counts(self) -> dict[str, float]:
        """What averages over this experience divide by: groups of weight 0 do not count."""
        pairs = list(zip(self.groups, self.group_weights, strict=True))
        return {
            "sequences": sum(weight * len(group.rollouts) for group, weight in pairs),
            "tokens": sum(
                weight * len(rollout.completion_ids)
                for group, weight in pairs
                for rollout in group.rollouts
            ),
        }


@dataclass(frozen=True, slots=True)
class Window:
    """All that a process learns from in a step, sampled before any of it is learnt."""

    experience: Experience
    """On the host."""
    pieces: tuple[tuple[int, ...], ...]
    """Groups of each piece, as indices; a piece may be empty."""
    counts: Mapping[str, float]
    """What the step's averages divide by, summed over all pieces and processes."""
    is_at_rest: bool
    """Whether the policy rests in this step, on all processes."""
    age: int = 0
    """How many windows older the weights are that have drawn it."""

    def part(self, piece: int, device: torch.device | str) -> Experience:
        """A piece, on a device.

        An empty one runs the window's first group with weight 0: all processes make the same calls.
        """
        indices = self.pieces[piece]
        part = self.experience.part(indices or (0,))
        weights = part.weights if indices else (0.0,)
        return replace(part, batch=part.batch.to(device), weights=weights)


@dataclass(frozen=True, slots=True)
class GroupScores:
    """What a stage makes of sampled groups."""

    rewards: Float[Tensor, "batch group"]
    """Total rewards, detached."""
    auxiliary_loss: Float[Tensor, ""] | None = None
    """This piece's share of a loss of further networks, whose parameters the policy loss does not
    touch."""
    columns: Columns = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PieceOutcome:
    """What a window's first update has found out about a piece; later ones take it as it is."""

    scores: GroupScores
    advantages: Float[Tensor, "batch group"]
    method: TokenMethod
    first: FirstScores = field(default_factory=FirstScores)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer step as observers see it: the whole window of this process."""

    step: int
    experience: Experience
    """Its prompts without pixels and features, which the next step has no room for."""
    rewards: Float[Tensor, "batch group"]
    advantages: Float[Tensor, "batch group"]
    columns: Columns
    methods: tuple[TokenMethod, ...]
    """Of the pieces that had groups."""
    piece_sizes: tuple[int, ...]
    """How many groups each of them had."""

    def feedback(self) -> list[list[str | None]]:
        """What a judge said, by prompt and rollout; None where none was asked, or failed."""
        size = self.advantages.shape[1]
        return [
            [method.feedback.get(group * size + n) for n in range(size)]
            for method, num_groups in zip(self.methods, self.piece_sizes, strict=True)
            for group in range(num_groups)
        ]

    @classmethod
    def of(cls, step: int, window: Window, outcomes: Sequence[PieceOutcome]) -> "StepRecord":
        """Put the pieces together, in the order in which they were taken."""
        taken = [(p, o) for p, o in zip(window.pieces, outcomes, strict=True) if p]
        names = {name for _, outcome in taken for name in outcome.scores.columns}
        whole = window.experience.part([i for indices, _ in taken for i in indices])
        read = [replace(prompt, pixels=None, features=None) for prompt in whole.batch.prompts]
        return cls(
            step,
            replace(whole, batch=whole.batch.without_views().with_prompts(read)),
            torch.cat([outcome.scores.rewards for _, outcome in taken]),
            torch.cat([outcome.advantages for _, outcome in taken]),
            {name: [row for _, o in taken for row in o.scores.columns[name]] for name in names},
            tuple(outcome.method for _, outcome in taken),
            tuple(len(indices) for indices, _ in taken),
        )
