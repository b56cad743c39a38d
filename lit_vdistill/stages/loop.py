"""How an optimizer step is taken, blind to what is learnt; told in `README.md` beside this file."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from torch import Tensor

from lit_vdistill import processes
from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models import meter
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.finite import loss_error
from lit_vdistill.stages.pieces import check_pieces
from lit_vdistill.stages.resident import resident_gib
from lit_vdistill.stages.stopwatch import Stopwatch


class StepLoop(LightningModule, ABC):
    """Steps over windows, in pieces; averages belong to the whole step.

    Subclasses plan a step (`begin_step`) and give each piece's share of its loss (`piece_loss`).
    Automatic optimization: every strategy keeps its own accumulation of gradients.
    """

    shown: ClassVar[tuple[str, ...]] = ("train/loss",)
    """Metrics in the progress bar."""
    max_tokens: int
    """Tokens of a piece, `optim.max_tokens`."""
    teacher_view: ViewConfig | None = None
    """What a privileged teacher sees where it sees more than the student; the data reads it too."""

    def __init__(self) -> None:
        """Nothing is planned yet."""
        super().__init__()
        self.metrics = StepMetrics()
        """Of the present step; whoever finds something out adds it."""
        self.stopwatch = Stopwatch()
        self.update = 0
        """Which optimizer step on the present window, from 0."""
        self.step_samples: list[str] = []
        """Ids of this process' samples of the last step, once its pieces are through."""
        self._losses: list[Tensor] = []
        self._values: dict[str, float] = {}
        self._logged: set[str] = set()

    @abstractmethod
    def begin_step(self, turn: WindowTurn) -> None:
        """Before a step's first piece: plan the step, count what its averages divide by."""

    @abstractmethod
    def piece_loss(self, turn: WindowTurn) -> Tensor:
        """A piece's share of the loss; the shares of all pieces and processes add up to it."""

    @abstractmethod
    def samples_of(self, turn: WindowTurn, piece: int) -> list[str]:
        """Ids of the samples that a piece of the present step is about."""

    @abstractmethod
    def piece_cost(self, prompt_tokens: int) -> int:
        """Tokens of a prompt with all that is trained on behind it, at the most."""

    def finish_step(self, values: dict[str, float]) -> None:
        """Behind a step's last piece, with its metrics, equal on all processes."""

    @property
    def step_values(self) -> Mapping[str, float]:
        """The metrics of the last step, equal on all processes; whole behind its last piece."""
        return self._values

    @property
    def looks_ahead(self) -> bool:
        """Whether a window is wanted while the one before it trains."""
        return False

    @property
    def updates_per_window(self) -> int:
        """Optimizer steps on one window."""
        return 1

    def training_step(self, turn: WindowTurn, batch_idx: int) -> Tensor:
        """One piece of an optimizer step.

        Raises:
            NonFiniteError: Behind the last, when the step's loss is no number.
        """
        if turn.is_first:
            self.metrics, self.update, self._losses = StepMetrics(), turn.update, []
            meter.read()
            self.begin_step(turn)
        loss = self.piece_loss(turn)
        self.metrics.add_sum("train/loss", loss)
        self._losses.append(loss.detach())
        if turn.is_last:
            for name, count in meter.read().items():
                self.metrics.add_sum(f"shared/{name}", count)
            self._values = self.metrics.reduced()
            samples = [self.samples_of(turn, piece) for piece in range(len(self._losses))]
            self.step_samples = [name for names in samples for name in names]
            if not math.isfinite(self._values["train/loss"]):
                terms = self.metrics.not_finite
                raise loss_error(self.global_step, self._losses, samples, terms)
            self.finish_step(self._values)
        return loss * self.loss_scale()

    def loss_scale(self) -> float:
        """Undoes every division of a loss that is whole by itself.

        Strategies average gradients over processes, and Lightning divides by
        `accumulate_grad_batches`, as DeepSpeed does once more (Lightning issue #6170).
        """
        pieces = self.trainer.accumulate_grad_batches
        divisions = 2 if self.trainer.strategy.handles_gradient_accumulation else 1
        return float(processes.world_size() * pieces**divisions)

    def on_train_start(self) -> None:
        """Refuse what would break in the middle of the run.

        Raises:
            ValueError: When a validation falls into a step, an epoch ends in a window, or a step
                may not fit its pieces.
        """
        pieces, every = self.trainer.accumulate_grad_batches, self.trainer.val_check_batch
        if isinstance(every, int) and every % pieces:
            raise ValueError(
                f"trainer.val_check_interval {every} counts pieces, of which a step has {pieces} "
                f"(trainer.accumulate_grad_batches): set a multiple of {pieces}, else a validation "
                "or checkpoint falls into a step"
            )
        count, window = self.trainer.num_training_batches, pieces * self.updates_per_window
        if isinstance(count, int) and count % window and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise ValueError(
                f"an epoch of {count} pieces (trainer.limit_train_batches) ends within a window, "
                f"which takes {window}: trainer.accumulate_grad_batches {pieces} x "
                f"loss.updates_per_rollout {self.updates_per_window}; set a multiple of {window}"
            )
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is not None:
            largest = self.piece_cost(data.train_set.longest_read())
            check_pieces(largest, data.loader.batch_size, pieces, self.max_tokens)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say whose it is, and how many pieces Lightning's counters are about."""
        checkpoint["stage"] = type(self).__name__
        checkpoint["num_pieces"] = self.trainer.accumulate_grad_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Count in this run's pieces: another number of processes may need others.

        Raises:
            ValueError: For a checkpoint of another stage.
        """
        theirs = checkpoint.get("stage", "an earlier version")
        ours = type(self).__name__
        if theirs != ours:
            raise ValueError(
                f"ckpt_path: a checkpoint of {theirs}, but this run's model is {ours}: name one of "
                f"{ours}'s own, or begin with the student that the other run has exported "
                "(model.policy.path <run_dir>/student)"
            )
        before, now = checkpoint["num_pieces"], self.trainer.accumulate_grad_batches
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counters in (progress["total"], progress["current"]):
            for name, count in counters.items():
                counters[name] = count * now // before

    def on_train_batch_start(self, batch: WindowTurn, batch_idx: int) -> None:
        """What was waited for until now was data."""
        self.stopwatch.stop("decode")

    def on_train_batch_end(self, outputs: Any, batch: WindowTurn, batch_idx: int) -> None:
        """Log a step, once its update is over; behind the run's last comes a validation."""
        if batch.is_last:
            times = self.stopwatch.lap()
            self._values |= {f"time/{kind}_s": seconds for kind, seconds in times.items()}
            self._values["perf/tokens_per_s"] = self._values["step/tokens"] / sum(times.values())
            self._values["perf/resident_gib"] = resident_gib()
            self._values["data/left_out"] = float(batch.left_out)
            # Lightning would log the last known value of what was not measured in this step.
            self._logged |= self._values.keys()
            self._values |= dict.fromkeys(self._logged - self._values.keys(), math.nan)
            for name, value in sorted(self._values.items()):
                self.log(name, value, prog_bar=name in self.shown, batch_size=1)
            # Lightning validates where a run is told to stop, wherever `val_check_interval` falls.
            self.trainer.should_stop |= self._is_last_step()
        self.stopwatch.start("decode")

    def _is_last_step(self) -> bool:
        trainer = self.trainer
        is_last_epoch = trainer.current_epoch + 1 == trainer.max_epochs
        return trainer.global_step == trainer.max_steps or (
            is_last_epoch and bool(trainer.is_last_batch)
        )
