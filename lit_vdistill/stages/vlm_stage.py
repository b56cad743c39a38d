"""What every stage has: a policy, its rollout engine, validation by generation, one optimizer."""

import math
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.models import meter
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import TokenScores, verify_shared_prefix
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.schedules import learning_rate_factor
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import (
    SamplingConfig,
    check_rollouts,
)
from lit_vdistill.stages.answering import AnsweringModule
from lit_vdistill.stages.finite import gradient_error
from lit_vdistill.stages.loop import StepLoop
from lit_vdistill.stages.optimizer import (
    ADAM_EPS,
    OptimConfig,
    RestingAdamW,
    clip_to_norm,
    gradients_of,
    quiet,
    quiet_eps,
    total_norm,
    with_decay,
)
from lit_vdistill.stages.validation import Validation, ValidationConfig, greedy_scores
from lit_vdistill.types import Rollout


class VLMStage(AnsweringModule, StepLoop):
    """A stage trains `policy`; subclasses say by which loss."""

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        sampling: SamplingConfig,
        validation: ValidationConfig,
        optim: OptimConfig,
    ) -> None:
        """Remember the configuration; networks are loaded in `configure_model`.

        Args:
            policy: The network to train.
            rewards: Rule rewards: trained on by reinforcement stages, reported by all.
            sampling: How completions are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(policy, sampling)
        self.validation_config, self.optim_config = validation, optim
        self.max_tokens = optim.max_tokens
        self.rewards = list(rewards)
        if twice := [n for n, k in Counter(r.name for r in self.rewards).items() if k > 1]:
            raise ValueError(
                f"model.rewards: '{twice[0]}' stands there twice; give one of them a `name`"
            )
        # Copies: what a callback anneals in the run must not move the scale that it is reported on.
        self.validation = Validation(deepcopy(self.rewards), validation.num_samples)
        self.checkpoint: str | None = None
        """What the run goes on from, for networks that depend on it; Lightning keeps it to itself
        until it loads. The command says so."""
        self._is_verified = False
        self.validation_report: dict[str, float] = {}
        """Results of the last validation, flat; `RunSummary` reads it."""
        self.validation_samples: dict[str, int] = {}
        """How many samples each of them is about."""

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation, and see that answers come from the present weights."""
        self.validation.reset()
        self.engine.synchronise()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> dict[str, Any]:
        """Answer held-out prompts once greedily and k times by sampling.

        Returns:
            `rows` of `tracking.predictions`; padding has none.
        """
        assert self.policy is not None
        if not self.engine.is_apart():
            batch = batch.with_prompts(self.look(batch.prompts))
        greedy = replace(self.sampling, temperature=0.0, top_p=1.0)
        answers = self.engine.generate(batch.prompts, 1, greedy, seed=self.seed)
        sampled: list[tuple[Rollout, ...]] = [()] * len(batch)
        if count := self.validation_config.num_samples:
            warm = replace(self.sampling, temperature=self.validation_config.temperature)
            sampled = self.engine.generate(batch.prompts, count, warm, seed=self.seed)
        rows = []
        for item, (answer,), others in zip(batch.items, answers, sampled, strict=True):
            if not item.is_padding:
                scores = self.validation.update(item.sample, answer, others)
                rows.append(self.prediction(item, answer, scores, others).row())
        return {"rows": rows}

    def on_validation_epoch_end(self) -> None:
        """Log `val/<metric>`, or `test/<metric>`, and keep the report."""
        self.validation_report = self.validation.compute()
        self.validation_samples = self.validation.num_samples()
        shown, split = {"score", "reward"}, "test" if self.trainer.testing else "val"
        for name, value in self.validation_report.items():
            # Equal on all ranks, as torchmetrics has synchronised it; all of them may monitor it.
            self.log(f"{split}/{name}", value, prog_bar=name in shown, sync_dist=True)

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def on_predict_epoch_start(self) -> None:
        """See that answers come from the present weights."""
        self.engine.synchronise()

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> dict[str, Any]:
        """The greedy answer to each prompt, as `validation_step` gives it."""
        greedy = replace(self.sampling, temperature=0.0, top_p=1.0)
        groups = self.engine.generate(batch.prompts, 1, greedy, seed=self.seed)
        rows = []
        for item, (answer,) in zip(batch.items, groups, strict=True):
            if not item.is_padding:
                scores = greedy_scores(answer.text, item.sample)
                rows.append(self.prediction(item, answer, scores).row())
        return {"rows": rows}

    def on_train_start(self) -> None:
        """Refuse rollouts that may not fit either; see `StepLoop.on_train_start`."""
        super().on_train_start()
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is not None:
            longest = max(data.train_set.longest_prompt(), data.val_set.longest_prompt())
            check_rollouts(longest, self.most_rollouts, self.sampling)

    @property
    def most_rollouts(self) -> int:
        """Completions of one prompt that are sampled together, at the most."""
        return max(1, self.validation_config.num_samples)

    def verify_once(self, prompts: Sequence[EncodedPrompt], rows: Sequence[Row]) -> None:
        """Before anything is learnt: sharing the prompt must change nothing on real data.

        Raises:
            RuntimeError: When it does.
        """
        config = self.policy_config
        if self._is_verified or "never" in (config.verify_shared_prefix, config.shared_prefix):
            return
        self._is_verified = True
        assert self.policy is not None
        chosen = next((i for i, prompt in enumerate(prompts) if prompt.kind != "text"), 0)
        two = [replace(row, prompt=0) for row in rows if row.prompt == chosen][:2]
        with meter.resting():
            gap = verify_shared_prefix(self.policy, [prompts[chosen]], two)
        self.metrics.add("verify/shared_prefix_gap", gap, 1.0)

    def with_router_loss(self, loss: Tensor, scores: TokenScores, tokens: float) -> Tensor:
        """Add a piece's share of the routers' load-balancing loss, where the policy has one.

        It is averaged over the step: a piece weighs as its completion tokens.

        Args:
            loss: The piece's share of all else.
            scores: The policy's, with gradients.
            tokens: Share of the piece in the step's completion tokens, of all processes.
        """
        if scores.router_loss is None:
            return loss
        self.metrics.add_sum("router/balance", scores.router_loss * tokens)
        return loss + self.policy_config.router_loss_coef * tokens * scores.router_loss

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Named parameter groups with their peak learning rates."""
        assert self.policy is not None
        trained = [p for p in self.policy.parameters() if p.requires_grad]
        return [{"name": "policy", "params": trained, "lr": self.optim_config.lr}]

    def lr_factor(self, group_name: str, step: int) -> float:
        """Factor on a group's peak learning rate at an optimizer step."""
        total = self.optim_config.horizon or int(self.trainer.estimated_stepping_batches)
        return learning_rate_factor(
            step, total, self.optim_config.warmup_ratio, self.optim_config.decay
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One AdamW with named groups: what every strategy, DeepSpeed included, can run."""
        decay = self.optim_config.weight_decay
        groups = [part for group in self.parameter_groups() for part in with_decay(group, decay)]
        optimizer = RestingAdamW(groups)
        factors = [
            lambda step, name=group["network"]: self.lr_factor(name, step) for group in groups
        ]
        scheduler = LambdaLR(optimizer, factors)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log each network's gradient norm before clipping; DeepSpeed keeps gradients to itself.

        Raises:
            NonFiniteError: When one is no number.
        """
        for network, gradients in gradients_of(optimizer).items():
            norm, name = total_norm(gradients), f"{network}/grad_norm"
            self.log(name, norm, batch_size=1, sync_dist=True)
            self._check_gradient(name, float(norm), has_moved=False)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each network by itself to `trainer.gradient_clip_val`.

        By their common norm the larger gradient, a discriminator's, would take the policy's step
        away. DeepSpeed knows no other; see `beside_policy`.
        """
        if not gradient_clip_val or self._is_clipped_as_one():
            return
        if gradient_clip_algorithm == "value":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        for gradients in gradients_of(optimizer).values():
            clip_to_norm(gradients, gradient_clip_val)

    def beside_policy(self, loss: Tensor) -> Tensor:
        """The loss of a network beside the policy, as it is to be descended.

        DeepSpeed clips all gradients by their common norm. There such a loss has a gradient so
        small that the policy's decides, and its network a smaller ε in AdamW (`beside_policy_eps`),
        whose steps are then the same to rounding. Its value stays.
        """
        return quiet(loss) if self._is_clipped_as_one() else loss

    def beside_policy_eps(self) -> float:
        """ε of AdamW for a network that learns by `beside_policy`."""
        return quiet_eps() if self._is_clipped_as_one() else ADAM_EPS

    def _is_clipped_as_one(self) -> bool:
        return self.trainer.strategy.handles_gradient_accumulation

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take a step; what DeepSpeed tells behind it is checked before anything is saved.

        Raises:
            NonFiniteError: When the norm that it tells is no number.
        """
        super().optimizer_step(*args, **kwargs)
        told = getattr(self.trainer.strategy.model, "get_global_grad_norm", lambda: None)()
        if told is not None:
            self._check_gradient("DeepSpeed's global norm", float(told), has_moved=True)

    def _check_gradient(self, name: str, norm: float, *, has_moved: bool) -> None:
        # A scaler of float16 losses finds the largest scale by such steps, and leaves them out.
        if math.isfinite(norm) or str(self.trainer.precision).startswith("16"):
            return
        raise gradient_error(self.global_step, name, norm, self.step_samples, has_moved=has_moved)
