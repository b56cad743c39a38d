"""What `validate`, `test` and `predict` find out, on disk and in the terminal."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.tracking import score_table
from lit_vdistill.tracking.predictions import PredictionFile

_NAMES = {"validate": "validate", "test": "test", "predict": "predictions"}


class PredictionWriter(Callback):
    """Writes every answer of `validate`, `test` and `predict`, and the scores of the first two.

    `validate.jsonl`, `test.jsonl` and `predictions.jsonl` have a line a question: its truth, the
    greedy answer, the frames' times and what the answers are worth, in the order of the split. An
    older file is replaced. `validate.json` and `test.json` hold the scores, those by level too
    where samples have one, and how many samples each is about; their table is printed in place of
    Lightning's. Without this callback the commands answer and forget.
    """

    def __init__(self, folder: str) -> None:
        """Set up.

        Args:
            folder: Where the files go.
        """
        self.folder = Path(folder)
        self._file: PredictionFile | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """One table is enough."""
        trainer.validate_loop.verbose = trainer.test_loop.verbose = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the command's file; within `fit` nothing is written."""
        if trainer.state.fn in _NAMES:
            self._file = PredictionFile(self.folder / f"{_NAMES[trainer.state.fn]}.jsonl")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the answers of one batch."""
        if self._file is not None:
            self._file.add(outputs["rows"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the answers together; print and write what they are worth."""
        if self._file is None:
            return
        data: Any = getattr(trainer, "datamodule", None)
        is_test = trainer.state.fn == "test"
        rows = self._file.finish((data.test_set if is_test else data.val_set).index_of)
        if trainer.is_global_zero and trainer.state.fn != "predict":
            assert isinstance(pl_module, VLMStage)
            records = data.sources.test_path if is_test else data.sources.val_path
            self._report(trainer, pl_module, records, score_table.level_scores(rows))
        self._file = None

    on_test_start = on_predict_start = on_validation_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end
    on_test_end = on_predict_end = on_validation_end

    def _report(
        self,
        trainer: Trainer,
        stage: VLMStage,
        records: str,
        levels: dict[str, dict[str, int | float]],
    ) -> None:
        path = self.folder / f"{_NAMES[str(trainer.state.fn.value)]}.json"  # type: ignore[union-attr]
        student = str(trainer.ckpt_path or stage.policy_config.path)
        found = {
            "student": student,
            "records": records,
            "scores": stage.validation_report,
            "samples": stage.validation_samples,
            "levels": levels,
        }
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        title = f"{student} on {records} ({path})"
        console = Console()
        console.print(
            score_table.by_task(title, [stage.validation_report], stage.validation_samples)
        )
        if levels:
            console.print(score_table.by_level(levels))
