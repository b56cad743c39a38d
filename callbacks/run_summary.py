"""What a run changed: the held-out scores before and after."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.tracking import score_table

_STARTED = time.monotonic()
"""When this package was imported, which is when a command starts."""
logger = logging.getLogger(__name__)


class RunSummary(Callback):
    """Prints and writes the validation before the first step beside the last one.

    With `trainer.num_sanity_val_steps: -1` Lightning validates the untouched student completely
    before training; scores of fewer samples are left out, and that is said. The file holds
    `{"seconds", "<before>": {…}, "<after>": {…}, "samples": {"<after>": {…}}, "left_out": {…}}`,
    metrics named as in the logs, with the step of the last validation, how many samples each is
    about, and by split the samples that could not be used.
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
        self.samples: dict[str, dict[str, int]] = {}

    def state_dict(self) -> dict[str, Any]:
        """A resumed run keeps the scores it started from."""
        return {"reports": self.reports, "samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scores of the interrupted run."""
        self.reports, self.samples = state_dict["reports"], state_dict["samples"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the first and the latest validation."""
        assert isinstance(pl_module, VLMStage)
        name = self.before if trainer.sanity_checking else self.after
        self.reports[name] = {"step": trainer.global_step, **pl_module.validation_report}
        self.samples[name] = pl_module.validation_samples

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file and print the table."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.after not in self.reports:
            logger.warning(
                "%s: no scores, as nothing was validated (trainer.limit_val_batches)", self.path
            )
        elif self.samples.get(self.before) != self.samples[self.after]:
            logger.warning(
                "%s: no scores of '%s', which was not validated on all %s samples before the first "
                "step (trainer.num_sanity_val_steps %s; -1 does)",
                self.path, self.before, self.samples[self.after]["score"],
                trainer.num_sanity_val_steps,
            )  # fmt: skip
            self.reports.pop(self.before, None)
            self.samples.pop(self.before, None)
        seconds = round(time.monotonic() - _STARTED, 1)
        data = trainer.datamodule  # type: ignore[attr-defined]
        ledgers = data.ledgers if isinstance(data, VideoDistillDataModule) else {}
        left_out = {split: list(map(str, ledger.bad.values())) for split, ledger in ledgers.items()}
        found = {"seconds": seconds, **self.reports, "samples": self.samples, "left_out": left_out}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if self.after in self.reports:
            title = f"held out, {' -> '.join(self.reports)} ({seconds:.0f} s, {self.path})"
            reports = list(self.reports.values())
            Console().print(score_table.by_task(title, reports, self.samples[self.after]))
