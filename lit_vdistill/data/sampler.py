"""Samplers that are functions of seed and position, sharded alike for any number of processes."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import torch
from torch.utils.data import Sampler

from lit_vdistill.types import Source


class StreamSampler(Sampler[int]):
    """A shard of the endless stream of samples: epoch after epoch, each a shuffle, unless told.

    Gives positions in the stream; `candidates` says what stands at one, and what takes the place of
    a sample that cannot be used. Epochs differ by their order, a function of (seed, epoch) alone,
    and an incomplete last window is left out of each. A position says all that a resumed run must
    know. Which samples the processes have together at a position depends on their windows' total
    size only, not on how many processes there are.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int,
        rank: int,
        world_size: int,
        window_size: int,
        order: Callable[[int], list[int]] | None = None,
    ) -> None:
        """Set the shard.

        Args:
            size: Samples of the dataset.
            seed: Seed of the permutations.
            rank: This process among all.
            world_size: Number of processes.
            window_size: Samples a process and window.
            order: Indices of an epoch, over all processes; None shuffles.

        Raises:
            ValueError: When the dataset does not fill one window.
        """
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size
        self.window_size = window_size
        self.per_epoch = size // world_size // window_size * window_size
        """Samples of an epoch on this process."""
        if self.per_epoch == 0:
            raise ValueError(
                f"{size} training samples do not fill one step: {world_size} processes x "
                f"data.loader.batch_size {window_size}; lower the batch size"
            )
        self.order = order or self._shuffled
        self.start = 0
        """Samples that this process has had before."""
        self._known: tuple[int, list[int]] = (-1, [])

    def __iter__(self) -> Iterator[int]:
        """Positions of this shard from `start` on, without an end."""
        return count(self.start)

    def candidates(self, position: int) -> Iterator[int]:
        """The index at a position of this shard, then those that may stand in for it, in turn.

        First what the epoch's later windows have at the same place, then at others. So a curriculum
        keeps its course, neighbours stay neighbours, no window has a sample twice, and the stream
        does not advance: processes that lose samples stay in step with those that lose none.
        """
        epoch, place = divmod(position, self.per_epoch)
        if self._known[0] != epoch:
            self._known = epoch, self.order(epoch)
        order, width = self._known[1], self.world_size * self.window_size
        height = self.per_epoch // self.window_size
        row, column = divmod(place * self.world_size + self.rank, width)
        for aside in range(width):
            for down in range(height):
                yield order[(row + down) % height * width + (column + aside) % width]

    def _shuffled(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.size, generator=generator).tolist()


def medium_order(
    media: Sequence[Source | None], epoch: int, *, seed: int, world_size: int, window_size: int
) -> list[int]:
    """Indices of one epoch, for `StreamSampler`: questions about one medium in one window.

    Media are shuffled, and so are the questions about each. Where a window ends within a medium's
    questions, the rest go to the next. Processes together have at a position what one would have.

    Args:
        media: The medium of each sample; None for a text, which comes by itself.
        epoch: From 0.
        seed: Seed of the shuffles.
        world_size: Number of processes.
        window_size: Samples a process and window.
    """
    members: dict[Source | int, list[int]] = {}
    for index, medium in enumerate(media):
        members.setdefault(index if medium is None else medium, []).append(index)
    rng = random.Random(f"{seed}/{epoch}")
    groups = rng.sample(list(members.values()), k=len(members))
    line = [index for group in groups for index in rng.sample(group, k=len(group))]
    # A process takes every world_size-th place; dealt so, it finds neighbours of the line there.
    together = world_size * window_size
    starts = range(0, len(line) // together * together, together)
    return [
        line[start + rank * window_size + place]
        for start in starts
        for place in range(window_size)
        for rank in range(world_size)
    ]


class ShardedEvalSampler(Sampler[int]):
    """Every sample once over all processes, in order.

    Processes with fewer samples get padding, encoded as `~index`: sharded generation hangs when
    they differ in number of batches, and scoring a copy would bias the metrics.
    """

    def __init__(self, size: int, *, rank: int, world_size: int) -> None:
        """Set the shard."""
        own = list(range(rank, size, world_size))
        missing = -(-size // world_size) - len(own)
        self.size, self.indices = size, own + [~0] * missing

    def candidates(self, index: int) -> Iterator[int]:
        """The index, then padding that may stand in for it, so that batches keep their sizes."""
        yield index
        place = max(index, ~index)
        yield from (~((place + step) % self.size) for step in range(1, self.size))

    def __iter__(self) -> Iterator[int]:
        """Indices of this shard."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Samples on this process, padding included."""
        return len(self.indices)
