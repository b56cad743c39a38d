"""What a scheduler's or a user's wish to stop does to a run: nothing is lost, and it says so."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_vdistill import processes


class StopOnSignal(Callback):
    """Ends a fit behind the step that runs when a signal comes, with a checkpoint to go on from.

    SIGTERM (a scheduler) and the first Ctrl-C; under Slurm also SIGUSR1 and SIGUSR2, which
    `sbatch --signal` sends ahead of the limit. `last.ckpt` is written, the command that goes on is
    printed, and the exit code is 128 + the signal's number, so that nobody takes the run for a
    finished one. A validation that runs is finished first; a second signal of the kind ends the
    process at once. Always on; needs no line in YAML.
    """

    def __init__(self) -> None:
        """No signal yet."""
        self._received: int = 0
        self._asked: tuple[str, int] | None = None
        self._code: int | None = None
        self._before: dict[int, Any] = {}

    def ask(self, reason: str, code: int) -> None:
        """Have the run end behind this step for another reason than a signal.

        All processes must ask in the same step.

        Args:
            reason: Who stops it, and why.
            code: The exit code.
        """
        self._asked = (reason, code)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen, in place of Lightning's handlers."""
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may
        signals = [signal.SIGTERM, signal.SIGINT]
        signals += [signal.SIGUSR1, signal.SIGUSR2] if "SLURM_JOB_ID" in os.environ else []
        self._before = {number: signal.signal(number, self._note) for number in signals}

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Remember the first; the next of its kind does what it does without us."""
        self._received = self._received or number
        is_ctrl_c = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
        again = ", Ctrl-C again ends it at once" if is_ctrl_c else ""
        sys.stderr.write(f"\n{signal.Signals(number).name}: stopping behind this step{again}\n")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save behind a whole step, if a process was told to stop; the step is not logged yet."""
        if not batch.is_last:
            return
        number = max(processes.gather(self._received))
        if number:
            self._asked = (signal.Signals(number).name, 128 + number)
        if self._asked is None:
            return
        reason, code = self._asked
        saved = self._save(trainer)
        if trainer.is_global_zero:
            more = (
                f"go on with --ckpt_path {saved}" if saved else "no checkpoint: no ModelCheckpoint"
            )
            step = trainer.global_step
            sys.stderr.write(f"stopped by {reason} behind step {step}; {more}\n")
        self._code = code

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop in place of the next step."""
        self._leave()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop in place of a validation behind the last step."""
        self._leave()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop behind an epoch's last step."""
        self._leave()

    def _leave(self) -> None:
        """Stop once the logger has the step that was the last.

        Raises:
            SystemExit: With 128 + the number of the signal, or with what was asked for.
        """
        if self._code is not None:
            raise SystemExit(self._code)

    def _save(self, trainer: Trainer) -> Path | None:
        """Write `last.ckpt` where the run's checkpoints are; all processes do it together."""
        keeper = trainer.checkpoint_callback
        if not isinstance(keeper, ModelCheckpoint) or keeper.dirpath is None:
            return None
        path = Path(keeper.dirpath) / f"{keeper.CHECKPOINT_NAME_LAST}{keeper.FILE_EXTENSION}"
        trainer.save_checkpoint(path)
        return path

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
