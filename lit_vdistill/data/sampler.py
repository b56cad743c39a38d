"""Samplers that are functions of seed and epoch, sharded, and resumable in mid-epoch."""

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler


class ResumableSampler(Sampler[int]):
    """A shard of a dataset whose order depends on (seed, epoch) alone: a shuffle, unless told.

    Lightning inserts a shuffling sampler of its own under distributed strategies unless told not
    to (`use_distributed_sampler: false`), and it asks for an iterator before it sets the epoch, so
    the epoch to resume in must be known from the start.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int,
        rank: int,
        world_size: int,
        batch_size: int,
        order: Callable[[int], list[int]] | None = None,
    ) -> None:
        """Set the shard.

        Args:
            size: Samples of the dataset.
            seed: Seed of the permutations.
            rank: This process among all.
            world_size: Number of processes.
            batch_size: Samples a process and batch; an incomplete last batch is left out.
            order: Indices of an epoch, over all processes; None shuffles.

        Raises:
            ValueError: When the dataset does not fill one batch.
        """
        self.size, self.seed, self.rank, self.world_size = size, seed, rank, world_size
        self.per_rank = size // world_size // batch_size * batch_size
        if self.per_rank == 0:
            raise ValueError(
                f"{size} training samples do not fill one batch: {world_size} processes x "
                f"data.loader.batch_size {batch_size}; lower the batch size"
            )
        self.order = order or self._shuffled
        self.epoch = 0
        self._resume_epoch, self._resume_at = 0, 0

    def resume(self, epoch: int, samples_done: int) -> None:
        """Start in `epoch` behind the samples that this process has had in it."""
        self.epoch = self._resume_epoch = epoch
        self._resume_at = samples_done

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Indices of this shard for the current epoch."""
        shard = self.order(self.epoch)[self.rank :: self.world_size][: self.per_rank]
        yield from shard[self._resume_at if self.epoch == self._resume_epoch else 0 :]

    def _shuffled(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.size, generator=generator).tolist()

    def __len__(self) -> int:
        """Samples of an epoch on this process, resumed or not."""
        return self.per_rank


class ShardedEvalSampler(Sampler[int]):
    """Every sample once over all processes, in order.

    Processes with fewer samples get padding, encoded as `~index`: sharded generation hangs when
    they differ in number of batches, and scoring a copy would bias the metrics.
    """

    def __init__(self, size: int, *, rank: int, world_size: int) -> None:
        """Set the shard."""
        own = list(range(rank, size, world_size))
        missing = -(-size // world_size) - len(own)
        self.indices = own + [~0] * missing

    def __iter__(self) -> Iterator[int]:
        """Indices of this shard."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Samples on this process, padding included."""
        return len(self.indices)
