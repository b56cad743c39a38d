"""Stage 2: R-MSD, adversarial distillation from a pool of teacher responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vdistill.models.discriminator import Discriminator
from lit_vdistill.models.layout import Row
from lit_vdistill.models.tokens import response_ids
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.adversarial import (
    PairWeight,
    RewardTransform,
    discriminator_reward,
    pair_weights,
    pairwise_loss,
    pearson,
)
from lit_vdistill.pool.matching import MatchingConfig, draw_match, matching_distribution
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.on_policy import OnPolicyModule, PolicyLossConfig
from lit_vdistill.stages.step import GroupScores, SampledStep
from lit_vdistill.stages.vlm_stage import OptimConfig, ValidationConfig
from lit_vdistill.types import ScoredResponse


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The online discriminator."""

    reward_weight: float = 0.4
    """α of R-MSD Eq. 6; 0 builds no discriminator."""
    lr: float = 1e-6
    """Peak learning rate of the discriminator (R-MSD §4.1.3)."""
    pair_weight: PairWeight = "none"
    """Factor on a pair's loss in Eq. 7: `none` as the paper's text says, `q` as its equation
    says, `q_norm` for q over its mean."""
    reward_transform: RewardTransform = "sigmoid_centered"
    """What turns the logit D(S) into a reward: sigmoid_centered, sigmoid, or raw (GAD)."""
    warmup_accuracy: float = 0.65
    """The warm-up ends once the running pair accuracy has reached it …"""
    warmup_max_steps: int = 50
    """… or after so many optimizer steps; 0 = no warm-up."""


@dataclass(frozen=True, slots=True)
class _Match:
    """The teacher side of one prompt."""

    responses: tuple[ScoredResponse, ...]
    """Those that can be drawn."""
    probabilities: tuple[float, ...]
    chosen: tuple[int, ...]
    """m(i) of each rollout."""


class RMSDModule(OnPolicyModule):
    """Reliable Multi-Sample Distillation, stage 2 (R-MSD §3.3-3.5).

    1. Sample N rollouts of every prompt (`sample`) and score them by rules (`rule_rewards`).
    2. Match each rollout to a teacher response, m(i) ~ p (Eqs. 3-4, `match_teachers`).
    3. Score rollouts and teacher responses by the discriminator, in one forward
       (`score_groups`).
    4. Reward = α D + β outer + η task + δ content (Eq. 6, `score_groups`).
    5. Group-normalised advantages, policy gradient and γ KL to stage 1 (Eq. 8, `OnPolicyModule`).
    6. Pairwise loss of the discriminator on the same scores (Eq. 7), added to the policy's: their
       parameters are disjoint and rewards are detached, so one step trains both.
    7. Until the discriminator tells the sides apart, the policy rests and the discriminator pays
       nothing (`is_warming_up`).
    """

    is_warm: Tensor
    running_accuracy: Tensor

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        disc: DiscriminatorConfig = DiscriminatorConfig(),
        matching: MatchingConfig = MatchingConfig(),
        loss: PolicyLossConfig = PolicyLossConfig(),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `OnPolicyModule`.

        Args:
            policy: The stage-1 student; also the reference and the discriminator's start.
            rewards: Rule rewards with their weights β, η, δ of Eq. 6.
            disc: The online discriminator, with its weight α.
            matching: How rollouts are paired with teacher responses.
            loss: The policy-gradient loss.
            sampling: How rollouts are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(
            policy,
            rewards,
            loss=loss,
            sampling=sampling,
            validation=validation,
            optim=optim,
        )
        self.disc_config, self.matching_config = disc, matching
        self.discriminator: Discriminator | None = None
        self.register_buffer("running_accuracy", torch.full((), 0.5))
        self.register_buffer("is_warm", torch.tensor(not self._has_warmup()))

    def configure_model(self) -> None:
        """Load policy and reference, and copy the stage-1 student into the discriminator."""
        super().configure_model()
        assert self.policy is not None
        if self.discriminator is None and self.disc_config.reward_weight:
            self.discriminator = Discriminator(self.copy_of_start())
            trained = any(p.requires_grad for p in self.policy.model.visual.parameters())
            self.discriminator.requires_grad_()
            self.discriminator.backbone.visual.requires_grad_(trained)

    @property
    def is_warming_up(self) -> bool:
        """Whether only the discriminator learns at present."""
        return not bool(self.is_warm)

    @property
    def is_policy_at_rest(self) -> bool:
        """The policy rests while the discriminator warms up."""
        return self.is_warming_up

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The policy, and the discriminator with its own learning rate."""
        groups = super().parameter_groups()
        if self.discriminator is not None:
            trained = [p for p in self.discriminator.parameters() if p.requires_grad]
            groups.append({"name": "disc", "params": trained, "lr": self.disc_config.lr})
        return groups

    def lr_factor(self, group_name: str, step: int) -> float:
        """0 for the policy during the warm-up: its loss stays in the graph, its weights stay."""
        if group_name == "policy" and self.is_warming_up:
            return 0.0
        return super().lr_factor(group_name, step)

    def score_groups(self, sampled: SampledStep) -> GroupScores:
        """Composite reward of Eq. 6 and, on the same scores, the discriminator's loss of Eq. 7."""
        rules = self.rule_rewards(sampled)
        if self.discriminator is None:
            return GroupScores(rules)
        matches = self.match_teachers(sampled)
        students, teachers = self._score_both(sampled, matches)
        pool = torch.stack(
            [
                (scores.detach() * torch.tensor(m.probabilities, device=self.device)).sum()
                if m is not None
                else torch.zeros((), device=self.device)
                for scores, m in zip(teachers, matches, strict=True)
            ]
        )
        paid = discriminator_reward(students, pool, self.disc_config.reward_transform)
        paid = _without_unpaired(paid, sampled, matches)
        loss, metrics = self._discriminator_loss(sampled, matches, students, teachers)
        weight = 0.0 if self.is_warming_up else self.disc_config.reward_weight
        total = rules + weight * paid
        metrics |= {
            "reward/disc": paid.mean().item(),
            "disc/reward_share": _share(weight * paid, rules),
            "disc/warmup": float(self.is_warming_up),
            "match/empty_pool": sum(m is None for m in matches) / len(matches),
        }
        self._update_warmup(metrics["disc/accuracy"])
        return GroupScores(total, loss, metrics, _columns(matches, paid, sampled))

    def match_teachers(self, sampled: SampledStep) -> list[_Match | None]:
        """m(i) for every rollout of every prompt (Eqs. 3-4); None where no response passes."""
        matches: list[_Match | None] = []
        for item, group in zip(sampled.batch.items, sampled.groups, strict=True):
            pool = item.pool[: self.matching_config.pool_size]
            probabilities = matching_distribution(
                [scored.quality for scored in pool],
                item.sample.task.is_closed_ended,
                self.matching_config,
            )
            if probabilities is None:
                matches.append(None)
                continue
            drawable = [(scored, p) for scored, p in zip(pool, probabilities, strict=True) if p > 0]
            responses, weights = zip(*drawable, strict=True)
            chosen = tuple(
                draw_match(
                    weights,
                    seed=self.seed,
                    sample_id=item.sample.id,
                    rollout=rollout.index,
                    step=self.global_step,
                )
                for rollout in group.rollouts
            )
            matches.append(_Match(responses, weights, chosen))
        return matches

    def _score_both(
        self, sampled: SampledStep, matches: Sequence[_Match | None]
    ) -> tuple[Float[Tensor, "batch group"], list[Float[Tensor, "_"]]]:
        """D of all rollouts and of all teacher responses, in one forward.

        Rollout texts are tokenised as teacher texts are: equal texts become equal ids however the
        policy happened to spell them, and so get equal scores. Nothing is trained on these ids but
        the discriminator.
        """
        assert self.discriminator is not None
        rows, sizes = [], []
        for i, group in enumerate(sampled.groups):
            rows += [
                Row(
                    i,
                    response_ids(self.processor, r.text, is_complete=not r.is_truncated)
                    or r.completion_ids,
                )
                for r in group.rollouts
            ]
        for i, match in enumerate(matches):
            responses = match.responses if match is not None else ()
            rows += [Row(i, response_ids(self.processor, s.response.text)) for s in responses]
            sizes.append(len(responses))
        scores = self.discriminator(sampled.batch.prompts, rows)
        count = len(sampled.rollouts)
        students = scores[:count].view(len(sampled.groups), -1)
        return students, list(scores[count:].split(sizes))

    def _discriminator_loss(
        self,
        sampled: SampledStep,
        matches: Sequence[_Match | None],
        students: Float[Tensor, "batch group"],
        teachers: Sequence[Float[Tensor, "_"]],
    ) -> tuple[Tensor, dict[str, float]]:
        """Eq. 7 over matched pairs, and the discriminator's health.

        A truncated rollout makes no pair: without its end-of-sequence token it is told apart at a
        glance.
        """
        own, other, qualities = [], [], []
        for i, (group, match) in enumerate(zip(sampled.groups, matches, strict=True)):
            for n, rollout in enumerate(group.rollouts):
                if match is not None and not rollout.is_truncated:
                    own.append(students[i, n])
                    other.append(teachers[i][match.chosen[n]])
                    qualities.append(match.responses[match.chosen[n]].quality)
        # An empty slice keeps the graph: every parameter must get a gradient in every step.
        student_scores = torch.stack(own) if own else students.flatten()[:0]
        teacher_scores = torch.stack(other) if other else students.flatten()[:0]
        quality = torch.tensor(qualities, device=self.device, dtype=torch.float32)
        weights = pair_weights(quality, self.disc_config.pair_weight)
        loss = pairwise_loss(teacher_scores, student_scores, weights)
        margin = (teacher_scores - student_scores).detach()
        # Equal texts have equal scores and teach nothing: accuracy is over pairs that differ.
        differing = margin[margin != 0]
        accuracy = differing.gt(0).float().mean() if len(differing) else 0.5
        lengths = torch.tensor([float(len(r.completion_ids)) for r in sampled.rollouts])
        scores = students.detach().flatten().cpu()
        return loss, {
            "disc/loss": loss.item(),
            "disc/accuracy": float(accuracy),
            "disc/margin": margin.mean().item() if own else 0.0,
            "disc/ties": margin.eq(0).float().mean().item() if own else 0.0,
            "disc/corr_length": pearson(scores, lengths).item(),
            "disc/corr_quality": pearson(teacher_scores.detach(), quality).item(),
            "disc/pair_weight": weights.mean().item() if own else 0.0,
        }

    def _has_warmup(self) -> bool:
        return bool(self.disc_config.reward_weight and self.disc_config.warmup_max_steps)

    def _update_warmup(self, accuracy: float) -> None:
        """End the warm-up when it has done its work, alike on all ranks."""
        if not self.is_warming_up:
            return
        mean = self.trainer.strategy.reduce(
            torch.tensor(accuracy, device=self.device), reduce_op="mean"
        )
        self.running_accuracy.lerp_(torch.as_tensor(mean).to(self.running_accuracy), 0.2)
        is_good = self.running_accuracy >= self.disc_config.warmup_accuracy
        is_over = self.global_step + 1 >= self.disc_config.warmup_max_steps
        self.is_warm.copy_(is_good | is_over)


def _without_unpaired(
    paid: Float[Tensor, "batch group"], sampled: SampledStep, matches: Sequence[_Match | None]
) -> Float[Tensor, "batch group"]:
    """Nothing for prompts without a teacher; the group's least for truncated rollouts.

    The discriminator has learnt nothing about truncated text, so its opinion does not count.
    """
    paid = paid.clone()
    for i, (group, match) in enumerate(zip(sampled.groups, matches, strict=True)):
        truncated = torch.tensor([r.is_truncated for r in group.rollouts], device=paid.device)
        if match is None or bool(truncated.all()):
            paid[i] = 0.0
        else:
            paid[i, truncated] = paid[i, ~truncated].min()
    return paid


def _share(disc: Float[Tensor, "batch group"], rules: Float[Tensor, "batch group"]) -> float:
    """Part of the spread of rewards within groups that comes from the discriminator, in [0, 1]."""
    ours, others = disc.std(dim=1).mean().item(), rules.std(dim=1).mean().item()
    return ours / (ours + others) if ours + others > 0 else 0.0


def _columns(
    matches: Sequence[_Match | None], paid: Float[Tensor, "batch group"], sampled: SampledStep
) -> dict[str, list[list[str | float]]]:
    """Matched teacher texts and discriminator rewards for the table of rollouts."""
    texts: list[list[str | float]] = [
        [m.responses[k].response.text for k in m.chosen]
        if m is not None
        else [""] * len(g.rollouts)
        for m, g in zip(matches, sampled.groups, strict=True)
    ]
    return {"matched_teacher": texts, "disc": paid.tolist()}
