"""Stage 2: R-MSD, adversarial distillation from a pool of teacher responses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_vdistill.models.discriminator import Discriminator, ReadOut
from lit_vdistill.models.families import tower_of
from lit_vdistill.models.vlm import VLMConfig, copy_of_start
from lit_vdistill.objectives.adversarial import PairWeight, RewardTransform, discriminator_reward
from lit_vdistill.pool.matching import MatchingConfig
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.critique import (
    Condition,
    critique,
    describe_critique,
    discriminator_loss,
    prompts_seen,
    without_unpaired,
)
from lit_vdistill.stages.matches import (
    Match,
    check_pool_size,
    columns,
    match_teachers,
    pairs_of,
    responses_asked,
)
from lit_vdistill.stages.on_policy import OnPolicyModule
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.step import Experience, GroupScores
from lit_vdistill.stages.validation import ValidationConfig


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The online discriminator."""

    reward_weight: float = 0.4
    """α of R-MSD Eq. 6; 0 builds no discriminator."""
    lr: float = 1e-6
    """Peak learning rate of the discriminator (R-MSD §4.1.3)."""
    read_out: ReadOut = "likelihood_mean_token"
    """What D is read from; `last_token` is the paper's (`models/discriminator.py`)."""
    condition: Condition = "video_question"
    """What D sees before a response: as GAD's does, without the video, or nothing; the paper writes
    D(S)."""
    pair_weight: PairWeight = "q"
    """Factor on a pair's loss: `q` as Eq. 7, Table 3's caption and §4.3.1 have it; `none` (Table 3,
    A to C, and GAD); `q_norm` for q over its mean."""
    reward_transform: RewardTransform = "sigmoid_centered"
    """What turns the logit D(S) into a reward: sigmoid_centered, sigmoid, or raw (GAD)."""
    warmup_accuracy: float = 0.65
    """The warm-up ends once the running pair accuracy has reached it …"""
    warmup_max_steps: int = 50
    """… or after so many optimizer steps; 0 = no warm-up."""


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
    rested_steps: Tensor

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
        self.register_buffer("rested_steps", torch.tensor(0))
        self.register_buffer("is_warm", torch.tensor(not self._has_warmup()))

    def load_networks(self) -> None:
        """Load policy and reference, and copy the stage-1 student into the discriminator."""
        super().load_networks()
        assert self.policy is not None
        if self.disc_config.reward_weight:
            start = copy_of_start(self.policy, self.policy_config)
            self.discriminator = Discriminator(start, self.disc_config.read_out)
            trained = any(p.requires_grad for p in tower_of(self.policy.model).parameters())
            self.discriminator.requires_grad_()
            tower_of(self.discriminator.backbone).requires_grad_(trained)

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
            rate, eps = self.disc_config.lr, self.beside_policy_eps()
            groups.append({"name": "disc", "params": trained, "lr": rate, "eps": eps})
        return groups

    def lr_factor(self, group_name: str, step: int) -> float:
        """0 for who rests, and the policy's schedule does not count the steps in which it did.

        The policy rests in the warm-up, the discriminator in later updates of a window: their loss
        stays in the graph, their weights stay.
        """
        is_policy = group_name == "policy"
        if self.is_warming_up if is_policy else step % self.updates_per_window:
            return 0.0
        rested = int(self.rested_steps) if is_policy else 0
        return super().lr_factor(group_name, step - rested)

    def counts(self, experience: Experience) -> dict[str, float]:
        """Pairs of Eq. 7 and the sum of their qualities too."""
        if self.discriminator is None:
            return super().counts(experience)
        pairs = pairs_of(experience, self.match_teachers(experience))
        return super().counts(experience) | {
            "pairs": sum(pair.weight for pair in pairs),
            "pair_quality": sum(pair.weight * pair.quality for pair in pairs),
        }

    def score_groups(self, part: Experience) -> GroupScores:
        """Composite reward of Eq. 6 and, on the same scores, the discriminator's loss of Eq. 7."""
        rules = self.rule_rewards(part)
        if self.discriminator is None:
            return GroupScores(rules)
        assert self.window is not None
        config, matches = self.disc_config, self.match_teachers(part)
        said = critique(self.discriminator, self.processor, part, matches, config.condition)
        pool = said.pool_scores(matches)
        paid = discriminator_reward(said.students, pool, config.reward_transform)
        paid = without_unpaired(paid, part, matches)
        pairs = pairs_of(part, matches)
        loss = discriminator_loss(self.metrics, said, pairs, self.window.counts, config.pair_weight)
        describe_critique(self.metrics, said, part, matches)
        weight = 0.0 if self.is_warming_up else config.reward_weight
        self.metrics.add_mean("reward/disc", paid)
        # Part of the spread of rewards within groups that comes from the discriminator.
        ours, others = ((weight * paid).std(dim=1).sum(), rules.std(dim=1).sum())
        self.metrics.add("disc/reward_share", ours, ours + others)
        self.metrics.add("disc/warmup", float(self.is_warming_up), 1.0)
        self.metrics.add("match/empty_pool", float(sum(m is None for m in matches)), len(matches))
        asked = responses_asked(part, self.matching_config)
        self.metrics.add("match/responses", float(sum(asked)), len(asked))
        shown = columns(part, matches, paid.tolist())
        return GroupScores(rules + weight * paid, self.beside_policy(loss), shown)

    def on_train_start(self) -> None:
        """Refuse a missing pool and a K that no pool has; see `VLMStage.on_train_start`.

        Raises:
            ValueError: When `matching.pool_size` is beyond the largest pool, or there is none.
        """
        super().on_train_start()
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is None or self.discriminator is None:
            return
        config = self.matching_config
        key = "pool_size_if_unequal" if config.pool_size_if_unequal else "pool_size"
        check_pool_size(config.largest_pool, data.train_set.pools, f"model.matching.{key}")

    def touch_auxiliary(self, part: Experience) -> Tensor | float:
        """0, with a gradient path to every parameter of the discriminator."""
        if self.discriminator is None:
            return 0.0
        items, rows = part.batch.items[:1], part.rows[:1]
        prompts = prompts_seen(self.processor, items, self.disc_config.condition)
        return self.discriminator(prompts, rows).sum() * 0.0

    def finish_step(self, values: dict[str, float]) -> None:
        """Count the steps in which the policy rested; end the warm-up where it has done its work.

        The values are those of all pieces and processes, so all latch alike, for the next step. It
        ends with a window: in further updates of one that began at rest the policy rests too.
        """
        super().finish_step(values)
        if not self.is_warming_up:
            return
        self.rested_steps += 1
        accuracy = values.get("disc/accuracy", math.nan)
        if not math.isnan(accuracy):
            self.running_accuracy.lerp_(self.running_accuracy.new_tensor(accuracy), 0.2)
        is_good = bool(self.running_accuracy >= self.disc_config.warmup_accuracy)
        is_over = self.global_step + 1 >= self.disc_config.warmup_max_steps
        is_whole = self.update + 1 == self.updates_per_window
        self.is_warm.fill_(is_whole and (is_good or is_over))

    def match_teachers(self, experience: Experience) -> list[Match | None]:
        """m(i) for every rollout (Eqs. 3-4), drawn anew each step."""
        config, step = self.matching_config, self.global_step
        return match_teachers(experience, config, seed=self.seed, step=step)

    def _has_warmup(self) -> bool:
        return bool(self.disc_config.reward_weight and self.disc_config.warmup_max_steps)
