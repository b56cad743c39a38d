"""Which samples are drawn when: a mixture over tasks and difficulties that moves along the run."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lit_vdistill.objectives.schedules import linear
from lit_vdistill.tasks import Task

DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Mixture:
    """Weights of samples by label, from the start of a run to a later step.

    A label is a task or a difficulty; one that is not named weighs 1, and a sample weighs the
    product of its labels.
    """

    start: Mapping[str, float]
    """Weights at step 0."""
    end: Mapping[str, float]
    """Weights from step `num_steps` on."""
    num_steps: int
    """Optimizer steps in between."""

    def __post_init__(self) -> None:
        known = [*map(str, Task), *DIFFICULTIES]
        for label, weight in [*self.start.items(), *self.end.items()]:
            if label not in known:
                raise ValueError(f"curriculum: unknown label '{label}', expected one of {known}")
            if not (weight >= 0 and math.isfinite(weight)):
                raise ValueError(f"curriculum: weight of '{label}' must be >= 0, got {weight}")

    def weight(self, labels: Sequence[str], step: int) -> float:
        """Weight of a sample with these labels at an optimizer step."""
        return math.prod(
            linear(step, self.start.get(label, 1.0), self.end.get(label, 1.0), self.num_steps)
            for label in labels
        )


def mixture_order(
    labels: Sequence[tuple[str, ...]],
    mixture: Mixture,
    epoch: int,
    *,
    seed: int,
    window_size: int,
    updates_per_window: int = 1,
) -> list[int]:
    """Indices of one epoch, as many as there are samples: a function of seed and epoch.

    At each place a group of samples with equal labels is drawn by its weight, then the next of it
    in a shuffled round: within a group all are seen equally often.

    Args:
        labels: Labels of each sample.
        mixture: How they weigh.
        epoch: From 0.
        seed: Seed of the draws.
        window_size: Samples that all processes together use at a time.
        updates_per_window: Optimizer steps on them.

    Raises:
        ValueError: When all samples weigh 0.
    """
    members: dict[tuple[str, ...], list[int]] = {}
    for index, own in enumerate(labels):
        members.setdefault(own, []).append(index)
    rng = random.Random(f"{seed}/{epoch}")
    rounds = {own: _rounds(indices, rng) for own, indices in members.items()}
    groups = list(members)
    windows_before = epoch * (len(labels) // window_size)
    order: list[int] = []
    weights: list[float] = []
    for place in range(len(labels)):
        if place % window_size == 0:
            step = (windows_before + place // window_size) * updates_per_window
            weights = [len(members[own]) * mixture.weight(own, step) for own in groups]
            if not sum(weights):
                raise ValueError(f"curriculum: at step {step} all samples weigh 0")
        order.append(next(rounds[rng.choices(groups, weights)[0]]))
    return order


def difficulties(mean_qualities: Sequence[float | None]) -> list[str]:
    """Thirds by the mean quality of a sample's teacher responses, the best third `easy`.

    Args:
        mean_qualities: One a sample; None without a pool, which counts as `medium`.
    """
    known = sorted(
        (index for index, quality in enumerate(mean_qualities) if quality is not None),
        key=lambda index: -(mean_qualities[index] or 0.0),
    )
    result = ["medium"] * len(mean_qualities)
    for rank, index in enumerate(known):
        result[index] = DIFFICULTIES[rank * len(DIFFICULTIES) // len(known)]
    return result


def _rounds(indices: Sequence[int], rng: random.Random) -> Iterator[int]:
    while True:
        yield from rng.sample(indices, k=len(indices))
