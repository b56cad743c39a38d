"""Answers of `predict`, on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from lit_vdistill import jsonl


class PredictionWriter(BasePredictionWriter):
    """Writes one JSON line a held-out prompt, with id, text, token ids and log-probabilities.

    Each process writes a file of its own, `predictions.jsonl` or `predictions.rank<n>.jsonl`; an
    older one is overwritten. Without this callback `predict` answers and forgets.
    """

    def __init__(self, folder: str) -> None:
        """Set up.

        Args:
            folder: Where the file goes.
        """
        super().__init__(write_interval="batch")
        self.folder = Path(folder)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an empty file."""
        jsonl.write(self._path(trainer), [])

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append the answers of one batch; padding is left out."""
        pairs = zip(batch.items, prediction, strict=True)
        jsonl.append(self._path(trainer), (answer for item, answer in pairs if not item.is_padding))

    def _path(self, trainer: Trainer) -> Path:
        rank = f".rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        return self.folder / f"predictions{rank}.jsonl"
