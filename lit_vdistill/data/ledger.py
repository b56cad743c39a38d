"""Unusable samples of a split: counted, named, and too many of them refused."""

import logging
from collections.abc import Sequence

from lit_vdistill.readers.records import BadSample

logger = logging.getLogger(__name__)


class BadSampleLedger:
    """Counts unusable samples of a split and stops the run beyond the budget."""

    def __init__(self, split: str, total: int, max_fraction: float) -> None:
        """Start with nothing bad among `total` samples."""
        self.split, self.total, self.max_fraction = split, total, max_fraction
        self.bad: dict[str, BadSample] = {}

    def add(self, found: Sequence[BadSample]) -> None:
        """Count samples, each once, and say so.

        Raises:
            ValueError: With the whole list, when there are more than the budget allows.
        """
        for sample in found:
            if (sample.id, sample.place) not in {(b.id, b.place) for b in self.bad.values()}:
                logger.warning("%s sample left out: %s", self.split, sample)
                self.bad[f"{sample.id} {sample.place}"] = sample
        if len(self.bad) > self.max_fraction * self.total:
            listed = "\n  ".join(map(str, self.bad.values()))
            raise ValueError(
                f"{len(self.bad)} of {self.total} {self.split} samples cannot be used, more than "
                f"data.sources.max_bad_fraction {self.max_fraction} allows:\n  {listed}"
            )
