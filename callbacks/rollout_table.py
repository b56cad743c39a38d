"""Rollouts for people to read."""

import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from lit_vdistill import jsonl
from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.stages import OnPolicyModule
from lit_vdistill.stages.step import StepRecord
from lit_vdistill.tracking.logged_media import filmstrip, log_rollouts, that_show_media

_SHOWN = 2
"""Prompts of a step in W&B's table: it is read by eye, and all are in the file."""


class RolloutTable(Callback):
    """Writes the rollouts of every n-th step to JSONL, and of two prompts to W&B where it logs.

    A row has step, sample, task, question, response, matched teacher response, each reward
    (`reward/<name>`), their total, the advantage and what a judge said. W&B's table
    `rollout/table` shows the prompt's frames beside it. Only looks: leaving it out changes no
    weight.
    """

    def __init__(self, path: str, every_n_steps: int = 10) -> None:
        """Set up.

        Args:
            path: JSONL file. A run that goes on from a step keeps the rows of earlier steps; rows
                of another run that was there are dropped.
            every_n_steps: Optimizer steps between two writes.
        """
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self._written = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop rows that this run is going to write itself, or that belong to another."""
        if trainer.is_global_zero and self.path.is_file():
            rows = [row for _, row in jsonl.read(self.path)]
            jsonl.write(self.path, [row for row in rows if _step_of(row) < trainer.global_step])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the step just taken when its turn has come."""
        assert isinstance(pl_module, OnPolicyModule), "RolloutTable needs a stage with rollouts"
        record = pl_module.last_step
        if record is None or record.step % self.every_n_steps or record.step == self._written:
            return
        self._written = record.step
        if not trainer.is_global_zero:
            return
        rows = rollout_rows(record)
        jsonl.append(self.path, rows)
        if loggers := that_show_media(trainer.loggers):
            shown = record.experience.groups[:_SHOWN]
            few = rows[: sum(len(group.rollouts) for group in shown)]
            data = getattr(trainer, "datamodule", None)
            log_rollouts(loggers, few, _strips(record, data), record.step)


def _step_of(row: Any) -> float:
    return row.get("step", math.inf) if isinstance(row, dict) else math.inf


def _strips(record: StepRecord, data: Any) -> dict[str, Image.Image]:
    """Frames of the prompts in W&B's table, by sample, where ours are the data."""
    if not isinstance(data, VideoDistillDataModule):
        return {}
    strips = {}
    for item in record.experience.batch.items[:_SHOWN]:
        if item.sample.media:
            medium = data.reader.read(item.sample.media, item.sample.media_type)
            strips[item.sample.id] = filmstrip(medium.frames, medium.times_s)
    return strips


def rollout_rows(record: StepRecord) -> list[dict[str, Any]]:
    """One flat row a rollout; rewards by the names that they have in the logs.

    Raises:
        ValueError: When two columns have one name.
    """
    rows, feedback = [], record.feedback()
    for i, group in enumerate(record.experience.groups):
        for n, rollout in enumerate(group.rollouts):
            parts = record.experience.breakdowns[i][n]
            row = [
                ("step", record.step),
                ("sample", group.sample.id),
                ("task", str(group.sample.task)),
                ("question", group.sample.question),
                ("answer", group.sample.answer),
                ("response", rollout.text),
                ("truncated", rollout.is_truncated),
                *((name, column[i][n]) for name, column in record.columns.items()),
                *((f"reward/{name}", paid) for name, paid in parts.items()),
                ("reward/total", round(record.rewards[i, n].item(), 6)),
                ("advantage", round(record.advantages[i, n].item(), 6)),
                ("feedback", feedback[i][n]),
            ]
            names = [name for name, _ in row]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(
                    f"RolloutTable: column '{twice[0]}' stands there twice; give the reward of "
                    "that name another one (`name` in model.rewards)"
                )
            rows.append(dict(row))
    return rows
