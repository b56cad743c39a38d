"""Sample, reward, advantage, loss: the algorithm-blind loop of every reinforcement stage."""

import math
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from lit_vdistill.data.dataset import PromptBatch
from lit_vdistill.models.forward import (
    completion_states,
    encode_vision,
    pad_token_id,
)
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import (
    HeadRequest,
    completion_logprobs,
    head_scores,
    verify_shared_prefix,
)
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.sharding import is_zero3_sharded
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.objectives.advantages import AdvantageMethod, group_advantages, has_signal
from lit_vdistill.objectives.kl import KLEstimator, kl_estimate
from lit_vdistill.objectives.policy import Reduction, clipped_surrogate, masked_average
from lit_vdistill.rewards import Reward, composite_reward, reward_breakdown
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.step import GroupScores, PendingCredit, SampledStep, StepRecord
from lit_vdistill.stages.vlm_stage import OptimConfig, ValidationConfig, VLMStage
from lit_vdistill.types import RolloutGroup


@dataclass(frozen=True)
class PolicyLossConfig:
    """The policy-gradient loss."""

    group_size: int = 8
    """Rollouts a prompt, N of R-MSD §4.1.3."""
    advantage: AdvantageMethod = "grpo"
    """Baseline and scale of a group's rewards: grpo, dr_grpo, rloo or reinforce."""
    clip_low: float = 0.2
    """Lower clip of the probability ratio; inert with one update a batch."""
    clip_high: float = 0.2
    """Upper clip of the probability ratio."""
    reduction: Reduction = "sequence_mean"
    """Average over tokens: sequence_mean (GRPO) or token_mean (DAPO)."""
    kl_coef: float = 1e-3
    """Weight of the KL to the starting policy, γ of R-MSD Eq. 8; 0 keeps no reference."""
    kl_estimator: KLEstimator = "k3"
    """Estimator of that KL: k1, k2 or k3."""


class OnPolicyModule(VLMStage):
    """Policy gradient on fresh rollouts; as it stands, GRPO on rule rewards.

    0. Look at every video, once for rollouts and policy (`look`).
    1. Sample N rollouts of every prompt from the current policy (`sample`).
    2. Score them by rules, and by whatever a stage adds (`score_groups`).
    3. Compare each with its siblings (`group_advantages`).
    4. Give each token its share (`start_credit`).
    5. Score the same token ids under policy and reference (`policy_loss`).
    6. Descend the clipped surrogate plus γ KL, plus a stage's auxiliary loss (`training_step`).
    """

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        loss: PolicyLossConfig = PolicyLossConfig(),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `VLMStage`.

        Args:
            policy: The network to train; its starting weights are also the reference.
            rewards: Rule rewards, weighted (R-MSD Eq. 6).
            loss: The policy-gradient loss.
            sampling: How rollouts are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(policy, rewards, sampling=sampling, validation=validation, optim=optim)
        self.loss_config = loss
        self.ref: PreTrainedModel | None = None
        self._is_verified = False
        self._logged: set[str] = set()
        self.last_step: StepRecord | None = None
        """The step just taken, for callbacks that show it."""

    def configure_model(self) -> None:
        """Load the policy, and keep its starting weights as reference where KL needs them."""
        super().configure_model()
        assert self.policy is not None
        if self.ref is None and self.loss_config.kl_coef:
            self.ref = self.copy_of_start().requires_grad_(False).eval()

    def copy_of_start(self) -> PreTrainedModel:
        """The starting policy once more; to be called before any training.

        Weights that ZeRO-3 has sharded cannot be copied, so they are loaded again.
        """
        assert self.policy is not None
        if is_zero3_sharded(self.policy):
            return load_model(self.policy_config)
        return deepcopy(self.policy)

    def training_step(self, batch: PromptBatch, batch_idx: int) -> Tensor:
        """One pass through the seven lines above."""
        started = time.perf_counter()
        prompts = self.look(batch)
        if self.policy_config.freeze_vision:
            batch = batch.with_prompts(prompts)  # one tower in all networks
        sampled = self.sample(batch, prompts)
        verified = self._verify_once(sampled, prompts)
        generated = time.perf_counter()
        scores = self.score_groups(sampled)
        advantages = group_advantages(scores.rewards, self.loss_config.advantage)
        scored = time.perf_counter()
        if self.is_policy_at_rest:
            loss, metrics = self.touch_policy(sampled), {}
        else:
            loss, metrics = self.policy_loss(sampled, prompts, advantages)
        if scores.auxiliary_loss is not None:
            loss = loss + scores.auxiliary_loss
        times = {"time/generate_s": generated - started, "time/score_s": scored - generated}
        metrics |= {**verified, **times, "train/loss": loss.item()}
        self._log_step(sampled, scores, advantages, metrics)
        self.last_step = StepRecord(self.global_step, sampled, scores, advantages)
        return self.scale_for_accumulation(loss)

    def look(self, batch: PromptBatch) -> tuple[EncodedPrompt, ...]:
        """The prompts with the features of the policy's tower, with their graph if it is trained.

        A policy at rest needs none.
        """
        assert self.policy is not None
        needs_graph = torch.is_grad_enabled() and not self.is_policy_at_rest
        with torch.set_grad_enabled(needs_graph):
            return encode_vision(self.policy.model, batch.prompts)

    def sample(self, batch: PromptBatch, prompts: Sequence[EncodedPrompt]) -> SampledStep:
        """N rollouts a prompt and their rule rewards.

        What is drawn depends on seed, step, sample and index alone: a resumed run draws it too.

        Args:
            batch: The step's items.
            prompts: Their prompts as the policy has looked at them.
        """
        drawn = self.engine.generate(
            prompts, self.loss_config.group_size, self.sampling, seed=self.step_seed()
        )
        groups = tuple(
            RolloutGroup(item.sample, rollouts)
            for item, rollouts in zip(batch.items, drawn, strict=True)
        )
        breakdowns = tuple(
            tuple(reward_breakdown(self.rewards, r.text, group.sample) for r in group.rollouts)
            for group in groups
        )
        return SampledStep(batch, groups, breakdowns)

    def _verify_once(
        self, sampled: SampledStep, prompts: Sequence[EncodedPrompt]
    ) -> dict[str, float]:
        """Before anything is learnt: sharing the prompt must change nothing on real data."""
        config = self.policy_config
        if self._is_verified or "never" in (config.verify_shared_prefix, config.shared_prefix):
            return {}
        self._is_verified = True
        assert self.policy is not None
        chosen = next((i for i, prompt in enumerate(prompts) if prompt.kind != "text"), 0)
        rows = [Row(chosen, r.completion_ids) for r in sampled.groups[chosen].rollouts[:2]]
        return {"verify/shared_prefix_gap": verify_shared_prefix(self.policy, prompts, rows)}

    def step_seed(self) -> int:
        """Seed of this optimizer step's draws."""
        return self.seed * 1_000_003 + self.global_step

    def rule_rewards(self, sampled: SampledStep) -> Float[Tensor, "batch group"]:
        """Weighted sum of the rule rewards of each rollout (R-MSD Eq. 6 without its first term)."""
        return torch.tensor(
            [
                [composite_reward(self.rewards, part) for part in group]
                for group in sampled.breakdowns
            ],
            device=self.device,
        )

    def score_groups(self, sampled: SampledStep) -> GroupScores:
        """Total rewards; a stage overrides this to add to the rules."""
        return GroupScores(self.rule_rewards(sampled))

    def start_credit(
        self, sampled: SampledStep, advantages: Float[Tensor, " rows"]
    ) -> PendingCredit:
        """Who divides a rollout's advantage among its tokens; a stage that knows better says so."""
        return PendingCredit()

    @property
    def is_policy_at_rest(self) -> bool:
        """Whether the policy does not learn at present: its loss need not be known."""
        return False

    def touch_policy(self, sampled: SampledStep) -> Float[Tensor, ""]:
        """0, with a gradient path to every parameter of the policy.

        A parameter without a gradient hangs some sharded strategies and re-applies its last one
        under others; one row is enough.
        """
        assert self.policy is not None
        rows = [Row(0, sampled.groups[0].rollouts[0].completion_ids)]
        return (
            completion_logprobs(self.policy, sampled.batch.prompts[:1], rows).logprobs.sum() * 0.0
        )

    def policy_loss(
        self,
        sampled: SampledStep,
        prompts: Sequence[EncodedPrompt],
        advantages: Float[Tensor, "batch group"],
    ) -> tuple[Tensor, dict[str, float]]:
        """Clipped surrogate plus γ times KL to the reference (R-MSD Eq. 8).

        Args:
            sampled: The rollouts.
            prompts: Their prompts as the policy has looked at them.
            advantages: One a rollout.
        """
        assert self.policy is not None
        config = self.loss_config
        rows = [
            Row(i, rollout.completion_ids)
            for i, group in enumerate(sampled.groups)
            for rollout in group.rollouts
        ]
        flat = advantages.flatten()
        credit = self.start_credit(sampled, flat)
        states = completion_states(self.policy.model, prompts, rows, pad_token_id(self.policy))
        request = HeadRequest(chosen_ids=credit.chosen_ids(states))
        scores = head_scores(self.policy.lm_head, states, request)
        logprobs, mask = scores.logprobs, scores.mask
        factors, metrics = credit.weigh(scores)
        token_advantages = flat[:, None] * factors
        per_token = clipped_surrogate(
            logprobs,
            logprobs.detach(),
            token_advantages,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
        )
        loss = masked_average(per_token, mask, config.reduction)
        metrics["policy/entropy"] = masked_average(scores.entropies, mask, "token_mean").item()
        recorded = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(r.rollout_logprobs, device=self.device) for r in sampled.rollouts],
            batch_first=True,
        )
        gap = (logprobs.detach() - recorded).abs()
        metrics["rollout/logprob_gap"] = masked_average(gap, mask, "token_mean").item()
        if self.ref is not None:
            with torch.no_grad():
                ref = completion_logprobs(self.ref, sampled.batch.prompts, rows)
            kl = kl_estimate(logprobs, ref.logprobs, config.kl_estimator)
            kl_loss = masked_average(kl, mask, config.reduction)
            loss = loss + config.kl_coef * kl_loss
            metrics["kl/ref"] = kl_loss.item()
        return loss, metrics

    def _log_step(
        self,
        sampled: SampledStep,
        scores: GroupScores,
        advantages: Float[Tensor, "batch group"],
        metrics: Mapping[str, float],
    ) -> None:
        rollouts = sampled.rollouts
        parts = [part for group in sampled.breakdowns for part in group]
        values = {
            "reward/total": scores.rewards.mean().item(),
            "reward/group_std": scores.rewards.std(dim=1).mean().item(),
            "rollout/no_signal": 1.0 - has_signal(advantages).float().mean().item(),
            "rollout/length": sum(len(r.completion_ids) for r in rollouts) / len(rollouts),
            "rollout/truncated": sum(r.is_truncated for r in rollouts) / len(rollouts),
            **{
                f"reward/{r.name}": sum(p[r.name] for p in parts) / len(parts) for r in self.rewards
            },
            **scores.metrics,
            **metrics,
        }
        # Lightning would log the last known value of what was not measured in this step.
        self._logged |= values.keys()
        values |= dict.fromkeys(self._logged - values.keys(), math.nan)
        for name, value in sorted(values.items()):
            shown = name in ("reward/total", "train/loss")
            self.log(name, value, prog_bar=shown, batch_size=len(sampled.batch), sync_dist=True)
