"""How near in time is near enough, over the run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_vdistill.objectives.schedules import linear
from lit_vdistill.rewards import ThinkPoint
from lit_vdistill.stages import OnPolicyModule


class ProximityAnnealing(Callback):
    """Narrows σ of `ThinkPoint` (VISD Eq. 12), a function of the optimizer step alone.

    VISD names no numbers; the code it builds on goes from 4 s to 1 s over three quarters of an
    epoch. Its clock is its own: a run that stops early does not narrow faster. Left out, σ stays
    what the reward has.
    """

    def __init__(self, start_s: float = 4.0, end_s: float = 1.0, num_steps: int = 1745) -> None:
        """Set up.

        Args:
            start_s: σ at step 0, in seconds.
            end_s: σ from step `num_steps` on.
            num_steps: Optimizer steps in between: three quarters of 2327, Open-o3-Video's epoch.
        """
        self.start_s, self.end_s, self.num_steps = start_s, end_s, num_steps

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set σ for this step."""
        assert isinstance(pl_module, OnPolicyModule), "ProximityAnnealing needs rollouts"
        sigma_s = linear(trainer.global_step, self.start_s, self.end_s, self.num_steps)
        for reward in pl_module.rewards:
            if isinstance(reward, ThinkPoint):
                reward.sigma_s = sigma_s
        pl_module.log("schedule/sigma_s", sigma_s, batch_size=1)
