"""What a run changed: the held-out scores before and after."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.types import Task

_STARTED = time.monotonic()
"""When this package was imported, which is when a command starts."""


class RunSummary(Callback):
    """Prints and writes the validation before the first step beside the last one.

    Needs `trainer.num_sanity_val_steps: -1`, which makes Lightning validate the untouched student
    completely before training. The file holds `{"seconds", "<before>": {…}, "<after>": {…},
    "left_out": {…}}`, metrics named as in the logs, with the step of the last validation, and by
    split the samples that could not be used.
    """

    def __init__(self, path: str, before: str, after: str) -> None:
        """Set up.

        Args:
            path: JSON file to write.
            before: Name of the student before this run, e.g. `stage1`.
            after: Name of the student after it, e.g. `rmsd`.
        """
        self.path = Path(path)
        self.before, self.after = before, after
        self.reports: dict[str, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """A resumed run keeps the scores it started from."""
        return {"reports": self.reports}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scores of the interrupted run."""
        self.reports = state_dict["reports"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the first and the latest validation."""
        assert isinstance(pl_module, VLMStage)
        name = self.before if trainer.sanity_checking else self.after
        self.reports[name] = {"step": trainer.global_step, **pl_module.validation_report}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file and print the table."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        seconds = round(time.monotonic() - _STARTED, 1)
        data = trainer.datamodule  # type: ignore[attr-defined]
        ledgers = data.ledgers if isinstance(data, VideoDistillDataModule) else {}
        left_out = {split: list(map(str, ledger.bad.values())) for split, ledger in ledgers.items()}
        found = {"seconds": seconds, **self.reports, "left_out": left_out}
        self.path.write_text(json.dumps(found, indent=2) + "\n")
        if self.before in self.reports and self.after in self.reports:
            Console().print(self._table(seconds))

    def _table(self, seconds: float) -> Table:
        before, after = self.reports[self.before], self.reports[self.after]
        sampled = next(
            (key for key in after if key.startswith("mean_at_") and "/" not in key), None
        )
        columns = ["score", *([sampled, "reward"] if sampled else [])]
        table = Table(
            title=f"held out, {self.before} -> {self.after} ({seconds:.0f} s, {self.path})"
        )
        table.add_column("task")
        for column in columns:
            table.add_column(column, justify="right")
        for task in ("", *map(str, Task)):
            keys = [f"{column}/{task}" if task else column for column in columns]
            if keys[0] in before and keys[0] in after:
                cells = [f"{before[key]:.3f} -> {after[key]:.3f}" for key in keys]
                table.add_row(task or "overall", *cells, end_section=not task)
        return table
