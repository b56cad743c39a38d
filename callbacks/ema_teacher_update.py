"""When and how fast the teacher follows the student."""

from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_vdistill.stages.self_teacher import SelfTeacherModule

Mode = Literal["ema", "ema_in_place", "current", "sync_n", "frozen"]


class EMATeacherUpdate(Callback):
    """Updates a privileged self after each optimizer step (VISD Eq. 8).

    Left out, the teacher stays the starting policy: as `frozen`. The weights live in the stage and
    in its checkpoints; this callback only decides. Accumulated batches count as one step.
    """

    def __init__(self, mode: Mode = "ema", rate: float = 0.01, every_n_steps: int = 10) -> None:
        """Set up.

        Args:
            mode: `ema` moves by `rate` each step, in float32; `ema_in_place` in the teacher's own
                type, as VISD's released code does, where a bfloat16 one hardly moves; `current`
                copies the student each step; `sync_n` copies it every `every_n_steps`; `frozen`
                never.
            rate: 1 - τ of Eq. 8 (VISD Table 8).
            every_n_steps: Optimizer steps between two copies of `sync_n`.
        """
        self.mode, self.rate, self.every_n_steps = mode, rate, every_n_steps
        self._updated = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step of a resumed run."""
        self._updated = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the teacher once an optimizer step."""
        assert isinstance(pl_module, SelfTeacherModule), "EMATeacherUpdate needs VISD, OPSD or SDPO"
        if trainer.global_step == self._updated:
            return
        self._updated = trainer.global_step
        if self.mode == "ema":
            pl_module.update_teacher(self.rate)
        elif self.mode == "ema_in_place":
            pl_module.update_teacher(self.rate, in_place=True)
        elif self.mode == "current" or (
            self.mode == "sync_n" and trainer.global_step % self.every_n_steps == 0
        ):
            pl_module.update_teacher(1.0)
