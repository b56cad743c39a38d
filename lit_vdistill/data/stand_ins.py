"""Another sample in the place of one that cannot be used."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from torch.utils.data import Dataset

from lit_vdistill.data.batch import Item, PromptBatch, collate
from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.readers.records import BadSample

MOST_TRIES = 64
"""Samples that are tried for one place. So many in a row are no accident: the medium root is wrong,
or a disk is gone, and each may take until the decoder's time-out."""


class StandInDataset(Dataset[tuple[Item | BadSample, ...]]):
    """What stands at a place of a stream: the first of its candidates that can be used."""

    def __init__(
        self, dataset: PromptDataset, candidates: Callable[[int], Iterable[int]], allowed: int
    ) -> None:
        """Set up; nothing is read.

        Args:
            dataset: Reads and encodes by index.
            candidates: Indices for a place, in the order in which they are tried.
            allowed: Bad samples that the split may have; with one more the run ends anyway.
        """
        self.dataset, self.candidates = dataset, candidates
        self.tries = min(MOST_TRIES, allowed + 1)

    def __getitem__(self, place: int) -> tuple[Item | BadSample, ...]:
        """The samples that could not be used, and behind them one that can; none where all fail."""
        found: dict[int, Item | BadSample] = {}
        for index in self.candidates(place):
            sample = max(index, ~index)
            if sample in found:
                continue  # a curriculum draws some more often than others
            found[sample] = self.dataset[index]
            if isinstance(found[sample], Item) or len(found) == self.tries:
                break
        return tuple(found.values())


def collate_places(places: Sequence[Sequence[Item | BadSample]]) -> PromptBatch:
    """Put what stands at some places into a batch."""
    return collate(list(chain.from_iterable(places)))
