"""What every stage has: a policy, its rollout engine, validation by generation, one optimizer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from lit_vdistill.data.dataset import PromptBatch
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
from lit_vdistill.objectives.schedules import Decay, learning_rate_factor
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.stages.validation import Validation
from lit_vdistill.types import Rollout


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule."""

    lr: float = 2e-6
    """Peak learning rate of the policy (R-MSD §4.1.3)."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay; the paper names none."""
    warmup_ratio: float = 0.03
    """Share of the run over which the rate rises."""
    decay: Decay = "cosine"
    """What follows: `cosine` to 0, or `constant`."""


@dataclass(frozen=True)
class ValidationConfig:
    """What is generated for held-out samples."""

    num_samples: int = 8
    """Sampled answers beside the greedy one, k of `mean_at_k`; 0 for none."""
    temperature: float = 1.0
    """Temperature of the sampled answers."""


class VLMStage(LightningModule, ABC):
    """A stage trains `policy`; subclasses say by which loss."""

    policy: PreTrainedModel | None

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
        super().__init__()
        self.policy_config, self.sampling, self.seed = policy, sampling, sampling.seed
        self.validation_config, self.optim_config = validation, optim
        self.rewards = list(rewards)
        # Copies: what a callback anneals in the run must not move the scale that it is reported on.
        self.validation = Validation(deepcopy(self.rewards), validation.num_samples)
        self.policy = None
        self.validation_report: dict[str, float] = {}
        """Results of the last validation, flat; `RunSummary` reads it."""

    @abstractmethod
    def training_step(self, batch: PromptBatch, batch_idx: int) -> Tensor:
        """The stage's algorithm, one step of it."""

    def configure_model(self) -> None:
        """Load the networks, inside the strategy's context so that it may shard them."""
        if self.policy is None:
            self._announce_zero3()
            self.processor = load_processor(self.policy_config.path)
            self.policy = load_model(self.policy_config)
            self.engine = HFRolloutEngine(self.policy, self.processor)

    def _announce_zero3(self) -> None:
        """Tell transformers that weights are sharded as they are loaded (DeepSpeed ZeRO-3).

        Without it `from_pretrained` copies whole tensors into shards and fails on their sizes. The
        announcement lasts as long as the object that makes it.
        """
        config = getattr(self.trainer.strategy, "config", None) if self._trainer else None
        if isinstance(config, dict) and config.get("zero_optimization", {}).get("stage") == 3:
            from transformers.integrations.deepspeed import HfDeepSpeedConfig

            self._zero3 = HfDeepSpeedConfig(config)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self.validation.reset()

    def validation_step(self, batch: PromptBatch, batch_idx: int) -> None:
        """Answer held-out prompts once greedily and k times by sampling."""
        assert self.policy is not None
        batch = batch.with_prompts(encode_vision(self.policy.model, batch.prompts))
        greedy = replace(self.sampling, temperature=0.0, top_p=1.0)
        answers = self.engine.generate(batch.prompts, 1, greedy, seed=self.seed)
        sampled: list[tuple[Rollout, ...]] = [()] * len(batch)
        if count := self.validation_config.num_samples:
            warm = replace(self.sampling, temperature=self.validation_config.temperature)
            sampled = self.engine.generate(batch.prompts, count, warm, seed=self.seed)
        for item, (answer,), others in zip(batch.items, answers, sampled, strict=True):
            if not item.is_padding:
                self.validation.update(item.sample, answer, others)

    def on_validation_epoch_end(self) -> None:
        """Log `val/<metric>` and keep the report."""
        self.validation_report = self.validation.compute()
        shown = {"score", "reward"}
        for name, value in self.validation_report.items():
            # Equal on all ranks, as torchmetrics has synchronised it; all of them may monitor it.
            self.log(f"val/{name}", value, prog_bar=name in shown, sync_dist=True)

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> list[dict[str, Any]]:
        """The greedy answer to each prompt, as plain values."""
        greedy = replace(self.sampling, temperature=0.0, top_p=1.0)
        groups = self.engine.generate(batch.prompts, 1, greedy, seed=self.seed)
        return [asdict(group[0]) for group in groups]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Named parameter groups with their peak learning rates."""
        assert self.policy is not None
        trained = [p for p in self.policy.parameters() if p.requires_grad]
        return [{"name": "policy", "params": trained, "lr": self.optim_config.lr}]

    def lr_factor(self, group_name: str, step: int) -> float:
        """Factor on a group's peak learning rate at an optimizer step."""
        total = int(self.trainer.estimated_stepping_batches)
        return learning_rate_factor(
            step, total, self.optim_config.warmup_ratio, self.optim_config.decay
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One AdamW with named groups: what every strategy, DeepSpeed included, can run."""
        groups = self.parameter_groups()
        optimizer = torch.optim.AdamW(groups, weight_decay=self.optim_config.weight_decay)
        factors = [lambda step, name=group["name"]: self.lr_factor(name, step) for group in groups]
        scheduler = LambdaLR(optimizer, factors)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the policy's gradient norm before clipping; DeepSpeed keeps gradients to itself."""
        assert self.policy is not None
        gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
        if gradients:
            norm = torch.nn.utils.get_total_norm(gradients)
            self.log("policy/grad_norm", norm, batch_size=1, sync_dist=True)

    def scale_for_accumulation(self, loss: Tensor) -> Tensor:
        """Undo a division that is done twice.

        Lightning and DeepSpeed both divide the loss by `accumulate_grad_batches`, which makes
        gradients too small by that factor (Lightning issue #6170).
        """
        if self.trainer.strategy.handles_gradient_accumulation:
            return loss * self.trainer.accumulate_grad_batches
        return loss
