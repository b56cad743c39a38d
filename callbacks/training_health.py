"""A run that collapses says so while it can be stopped."""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.stop_on_signal import StopOnSignal
from lit_vdistill import jsonl
from lit_vdistill.stages.loop import StepLoop
from lit_vdistill.tracking.health import HealthLimits, HealthWatch

EXIT_CODE = 3
"""Of a run that was stopped for its health; 1 is an error's, 2 a refusal's, 128 + n a signal's."""
logger = logging.getLogger(__name__)


class TrainingHealth(Callback):
    """Raises an alarm, once each, where a run collapses.

    No group with a signal, a reward that is constant below 1, entropy or length that run away or
    collapse, more and more truncated completions, a KL that runs away, a discriminator that is
    always right or as good as a coin, gradient norms in spikes. What is looked at are medians over
    a window against limits or the run's own beginning (`tracking/health.py`), so a run of less than
    two windows is judged by limits alone.

    An alarm goes to the log, to `<folder>/health.jsonl` with what it was compared with and the
    option that usually mends it, and to the metrics: from then on `health/<alarm>` is its step.
    An empty file means that nothing was found. All processes decide alike, on metrics that are
    equal on all; DeepSpeed tells no gradient norms of its own. Only looks: leaving it out changes
    no weight.
    """

    def __init__(
        self,
        folder: str,
        window: int = 20,
        limits: HealthLimits = HealthLimits(),
        stop: bool = False,
    ) -> None:
        """Set up.

        Args:
            folder: Where `health.jsonl` goes.
            window: Optimizer steps that a median is of.
            limits: Beyond what a run has collapsed.
            stop: End the run behind a step with an alarm, with `last.ckpt` and exit code 3; who
                goes on from there is not stopped by the same alarm again.
        """
        self.path, self.stop = Path(folder) / "health.jsonl", stop
        self.watch = HealthWatch(window, limits)

    def state_dict(self) -> dict[str, Any]:
        """A resumed run remembers its beginning, and its alarms."""
        return self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them over."""
        self.watch.load_state_dict(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known; alarms of another run that was there are dropped.

        Raises:
            ValueError: When nobody would stop the run.
        """
        if self.stop:
            self._stopper(trainer)
        self._write(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at a whole step."""
        assert isinstance(pl_module, StepLoop), "TrainingHealth needs a stage of lit_vdistill"
        if not batch.is_last:
            return
        norms = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.endswith("/grad_norm")
        }
        # The step is counted already.
        step = trainer.global_step - 1
        found = self.watch.see(step, {**pl_module.step_values, **norms})
        for alarm in self.watch.alarms:
            pl_module.log(f"health/{alarm.alarm}", float(alarm.step), batch_size=1)
        if not found:
            return
        self._write(trainer)
        if trainer.is_global_zero:
            for alarm in found:
                logger.warning("%s", alarm)
        if self.stop:
            names = ", ".join(alarm.alarm for alarm in found)
            self._stopper(trainer).ask(f"TrainingHealth ({names})", EXIT_CODE)

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            jsonl.write(self.path, map(asdict, self.watch.alarms))

    def _stopper(self, trainer: Trainer) -> StopOnSignal:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StopOnSignal):
                return callback
        raise ValueError(
            "TrainingHealth: stop is true, but no callbacks.StopOnSignal is among the trainer's "
            "callbacks, which would end the run with its checkpoint; the command always has one: "
            "add it behind all others"
        )
