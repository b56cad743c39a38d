"""How much of the credit the teacher decides, over the run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_vdistill.objectives.schedules import linear
from lit_vdistill.stages import VISDModule


class LambdaAnnealing(Callback):
    """Lowers λ of VISD Eq. 7 linearly, a function of the optimizer step alone.

    Left out, λ stays `credit.mix` for the whole run. At 0 the stage calls neither judge nor
    teacher.
    """

    def __init__(self, start: float = 0.5, end: float = 0.0, num_steps: int = 600) -> None:
        """Set up.

        Args:
            start: λ at step 0.
            end: λ from step `num_steps` on.
            num_steps: Optimizer steps in between (VISD Table 8).
        """
        self.start, self.end, self.num_steps = start, end, num_steps

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set λ for this step."""
        assert isinstance(pl_module, VISDModule), "LambdaAnnealing needs a VISD stage"
        pl_module.credit_mix = linear(trainer.global_step, self.start, self.end, self.num_steps)
