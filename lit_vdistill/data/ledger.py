"""Unusable samples of a split: counted, named, and too many of them refused."""

import logging
from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_only

from lit_vdistill import processes
from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.readers.records import BadSample

logger = logging.getLogger(__name__)


class BadSampleLedger:
    """Counts unusable samples of a split and stops the run beyond the budget."""

    def __init__(self, split: str, total: int, max_fraction: float) -> None:
        """Start with nothing bad among `total` samples."""
        self.split, self.total, self.max_fraction = split, total, max_fraction
        self.bad: dict[tuple[str, str], BadSample] = {}

    @property
    def allowed(self) -> int:
        """Bad samples that the split may have."""
        return int(self.max_fraction * self.total)

    def add(self, found: Sequence[BadSample]) -> None:
        """Count samples that all processes know of, each once, and say so.

        Raises:
            ValueError: With the whole list, when there are more than the budget allows.
        """
        for sample in found:
            if (sample.id, sample.place) not in self.bad:
                self.bad[sample.id, sample.place] = sample
                _say("%s sample left out: %s", self.split, sample)
        if len(self.bad) > self.allowed:
            listed = "\n  ".join(map(str, self.bad.values()))
            raise ValueError(
                f"{len(self.bad)} of {self.total} {self.split} samples cannot be used, more than "
                f"data.sources.max_bad_fraction {self.max_fraction} allows:\n  {listed}"
            )

    def add_batch(self, batch: PromptBatch) -> None:
        """Count what every process has lost on the way to its batch.

        A collective: what one process finds stops all of them, or none.

        Raises:
            ValueError: Beyond the budget, or when a process has fewer samples than the others.
        """
        everywhere = processes.gather((batch.bad, len(batch)))
        self.add([sample for found, _ in everywhere for sample in found])
        sizes = [size for _, size in everywhere]
        if min(sizes) < max(1, *sizes):
            last = next(found for found, size in everywhere if size == min(sizes))[-3:]
            raise ValueError(
                f"too many {self.split} samples in a row cannot be used, none is left to stand in "
                f"for them: … {'; '.join(map(str, last))}; is data.sources.media_root right?"
            )


@rank_zero_only
def _say(text: str, *values: object) -> None:
    logger.warning(text, *values)
