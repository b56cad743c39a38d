"""A benchmark's questions as batches: those about one medium together, each once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.stand_ins import StandInDataset, collate_places
from lit_vdistill.types import Source


def medium_batches(media: Sequence[Source | None], size: int) -> list[list[int]]:
    """Indices of questions by batch.

    Questions about one medium follow each other and stand in one batch where they fit, so that it
    is decoded, seen and prefilled once; media come in the order of their first questions.

    Args:
        media: The medium of each question; None for a text, which comes by itself.
        size: Questions of a batch at the most.
    """
    members: dict[Source | int, list[int]] = {}
    for index, medium in enumerate(media):
        members.setdefault(index if medium is None else medium, []).append(index)
    batches: list[list[int]] = [[]]
    for group in members.values():
        if len(batches[-1]) + min(len(group), size) > size:
            batches.append([])
        for index in group:
            if len(batches[-1]) == size:
                batches.append([])
            batches[-1].append(index)
    return [batch for batch in batches if batch]


def shard(batches: Sequence[list[int]], rank: int, world_size: int) -> list[list[int]]:
    """A process' batches; one that has fewer than others gets padding, encoded as `~index`."""
    own = list(batches[rank::world_size])
    return own + [[~0]] * (-(-len(batches) // world_size) - len(own))


@dataclass(frozen=True)
class LoaderSize:
    """How questions become batches."""

    batch_size: int = 8
    """Questions of a process and step; those about one medium come together where they fit."""
    num_workers: int = 0
    """Processes that load ahead; 0 loads in the evaluating process."""

    def __post_init__(self) -> None:
        """Refuse batches of nothing.

        Raises:
            ValueError: Names the key.
        """
        if self.batch_size < 1 or self.num_workers < 0:
            raise ValueError(
                f"loader: expected batch_size 1 or more and num_workers 0 or more, got {self}"
            )


class QuestionData(LightningDataModule):
    """The questions that have no answer yet, dealt to the processes."""

    def __init__(self, dataset: PromptDataset, size: LoaderSize) -> None:
        """Set up; nothing is read.

        Args:
            dataset: Reads and encodes.
            size: Of batches.
        """
        super().__init__()
        self.dataset, self.size = dataset, size

    def test_dataloader(self) -> DataLoader[Any]:
        """Batches of this process; what cannot be read is carried along."""
        assert self.trainer is not None
        stage: Any = self.trainer.lightning_module
        samples = self.dataset.samples
        open_ones = [i for i, one in enumerate(samples) if one.id not in stage.answers.known]
        batches = medium_batches([samples[i].media for i in open_ones], self.size.batch_size)
        batches = [[open_ones[i] for i in batch] for batch in batches]
        own = shard(batches, self.trainer.global_rank, self.trainer.world_size)
        workers = self.size.num_workers
        return DataLoader(
            StandInDataset(self.dataset, self._candidates, allowed=len(samples)),
            batch_sampler=own,
            num_workers=workers,
            collate_fn=collate_places,
            prefetch_factor=2 if workers else None,
        )

    def _candidates(self, index: int) -> Iterator[int]:
        """A question, and padding that may stand in for it where it cannot be read.

        Several processes have to call a sharded network equally often.
        """
        yield index
        assert self.trainer is not None
        if self.trainer.world_size > 1:
            place = max(index, ~index)
            yield from (~other for other in range(len(self.dataset)) if other != place)
