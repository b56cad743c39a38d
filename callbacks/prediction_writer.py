"""Answers of `predict`, on disk."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter


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
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path(trainer).write_text("")

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
        with self._path(trainer).open("a", encoding="utf-8") as file:
            for item, answer in zip(batch.items, prediction, strict=True):
                if not item.is_padding:
                    file.write(json.dumps(answer, ensure_ascii=False) + "\n")

    def _path(self, trainer: Trainer) -> Path:
        rank = f".rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        return self.folder / f"predictions{rank}.jsonl"
