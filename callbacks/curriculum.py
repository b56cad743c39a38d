"""What is trained on when."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.data.mixture import Mixture
from lit_vdistill.tasks import Task


class Curriculum(Callback):
    """Moves the mixture over tasks and difficulties along the run.

    Difficulty is the pool's: samples are split into thirds, `easy`, `medium`, `hard`, by the mean
    quality of their teacher responses. Left out, every sample is seen once an epoch. The order is
    a function of seed and epoch, so a resumed run goes on as an uninterrupted one.
    """

    def __init__(
        self, start: Mapping[str, float], end: Mapping[str, float] | None = None, num_steps: int = 1
    ) -> None:
        """Set up.

        Args:
            start: Weight of tasks and difficulties at step 0; what is not named weighs 1.
            end: The same from step `num_steps` on; None = all weigh 1.
            num_steps: Optimizer steps in between.
        """
        self.mixture = Mixture(start, end or {}, num_steps)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the mixture to the data module, before it builds its loader."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, VideoDistillDataModule), "Curriculum needs VideoDistillDataModule"
        data.mixture = self.mixture

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the share of every task, also of one that the window has nothing of."""
        if batch.is_first:
            counts = Counter(item.sample.task for item in batch.window.items)
            for task in Task:
                share = counts[task] / len(batch.window)
                pl_module.log(f"curriculum/{task}", share, batch_size=1, sync_dist=True)
