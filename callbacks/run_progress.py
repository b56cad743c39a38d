"""A progress bar over the whole run."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm, TQDMProgressBar


class RunProgress(TQDMProgressBar):
    """Steps of the run, not of the epoch, with the time left until its end.

    The stock bar counts batches of an epoch and shows a time left that means nothing under
    `max_steps`.
    """

    def on_train_start(self, *args: Any) -> None:
        """Count from the step that a resumed run starts at."""
        super().on_train_start(*args)
        trainer = self.trainer
        steps = trainer.estimated_stepping_batches
        self._bar_total = int(steps) if steps != float("inf") else None
        self.train_progress_bar.reset(self._bar_total)
        self.train_progress_bar.initial = self.train_progress_bar.n = trainer.global_step
        self.train_progress_bar.set_description(
            type(trainer.lightning_module).__name__.removesuffix("Module")
        )

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Go on; the bar is not the epoch's."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by optimizer steps."""
        bar: Tqdm = self.train_progress_bar
        done = trainer.global_step
        if self._should_update(done, self._bar_total or done):
            bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)
            bar.update(done - bar.n)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What is logged with `prog_bar=True`, without the logger's version."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}
