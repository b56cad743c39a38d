"""What is logged about the rewards and tokens of a piece."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from lit_vdistill.models.logprobs import TokenScores
from lit_vdistill.objectives.advantages import has_signal
from lit_vdistill.rewards import Reward
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.step import Experience


def describe_rewards(
    metrics: StepMetrics,
    part: Experience,
    rules: Sequence[Reward],
    totals: Float[Tensor, "batch group"],
    advantages: Float[Tensor, "batch group"],
) -> None:
    """Add rewards, by name and in all, their spread, and lengths.

    Args:
        metrics: Takes them.
        part: Whole groups.
        rules: The rule rewards.
        totals: Total rewards.
        advantages: What has become of them.
    """
    rollouts = part.rollouts
    count = float(len(rollouts))
    metrics.add_mean("reward/total", totals)
    if totals.shape[1] > 1:
        metrics.add_mean("rollout/reward_std", totals.std(dim=1))
    metrics.add_mean("rollout/no_signal", 1.0 - has_signal(advantages).float())
    metrics.add("rollout/length", float(sum(len(r.completion_ids) for r in rollouts)), count)
    metrics.add("rollout/truncated", float(sum(r.is_truncated for r in rollouts)), count)
    scored = list(zip(part.groups, part.breakdowns, strict=True))
    for rule in rules:
        # A task that a reward is not about would pull its average to 0.
        paid = [
            parts[rule.name]
            for group, breakdowns in scored
            if rule.applies_to(group.sample)
            for parts in breakdowns
        ]
        metrics.add(f"reward/{rule.name}", sum(paid), float(len(paid)))


def describe_tokens(
    metrics: StepMetrics,
    scores: TokenScores,
    sampled: Float[Tensor, "rows seq"],
    is_clipped: Bool[Tensor, "rows seq"],
) -> None:
    """Add entropy, how far the policy is from the sampler in nats, and what the clip has changed.

    Args:
        metrics: Takes them.
        scores: The policy's.
        sampled: The sampler's log-probabilities of the same tokens.
        is_clipped: Where `policy_surrogate` has met its bounds.
    """
    change = (scores.logprobs.detach() - sampled)[scores.mask]
    metrics.add_mean("policy/entropy", scores.entropies[scores.mask])
    metrics.add_mean("policy/clip_fraction", is_clipped[scores.mask].float())
    metrics.add_mean("rollout/logprob_gap", change.abs())
    metrics.add_largest("rollout/logprob_gap_max", change.abs())
