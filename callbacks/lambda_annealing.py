"""How much of the credit the teacher decides, over the run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_vdistill.objectives.schedules import linear
from lit_vdistill.stages import ImprobableTokensModule, VISDModule


class LambdaAnnealing(Callback):
    """Lowers λ of VISD Eq. 7 linearly from `credit.mix` to 0, by the optimizer step alone.

    Left out, λ stays `credit.mix` for the whole run. At 0 the stage calls neither judge nor
    teacher, and gives back the teacher's memory. `ImprobableTokensModule` has the same λ.
    """

    def __init__(self, num_steps: int = 600) -> None:
        """Set up.

        Args:
            num_steps: Optimizer steps until λ is 0 (VISD Table 8).
        """
        self.num_steps = num_steps

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set λ for this step."""
        has_mix = isinstance(pl_module, VISDModule | ImprobableTokensModule)
        assert has_mix, "LambdaAnnealing needs a stage with a λ"
        start = pl_module.credit_config.mix
        pl_module.credit_mix = linear(trainer.global_step, start, 0.0, self.num_steps)
