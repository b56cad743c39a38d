"""Advantages of grouped rollouts."""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

AdvantageMethod = Literal["grpo", "dr_grpo", "rloo", "reinforce"]


def group_advantages(
    rewards: Float[Tensor, "batch group"], method: AdvantageMethod = "grpo", epsilon: float = 1e-4
) -> Float[Tensor, "batch group"]:
    """Advantage of each rollout among those of its prompt.

    R-MSD Eq. 8 is `-E[R]` without a baseline; N = 8 rollouts a prompt are there to give one, so
    the default is that of GRPO, on which its predecessor GAD trains.

    Args:
        rewards: Composite rewards of Eq. 6.
        method: `grpo`: less the group's mean, over its sample standard deviation (ddof 1) plus
            epsilon. `dr_grpo`: less the mean only (arXiv:2503.20783). `rloo`: less the mean of the
            others (arXiv:2402.14740). `reinforce`: the reward itself, Eq. 8 to the letter.
        epsilon: Added to the standard deviation; 1e-4 as in TRL and Open-o3-Video.

    Returns:
        Advantages; exactly 0 for a group of equal rewards, except under `reinforce`.

    Raises:
        ValueError: For fewer than two rollouts a group where a baseline needs them.
    """
    size = rewards.shape[1]
    if method == "reinforce":
        return rewards
    if size < 2:
        raise ValueError(
            f"advantage '{method}' compares the rollouts of a prompt, got group_size {size}; "
            "set group_size to 2 or more, or model.advantage to 'reinforce'"
        )
    # A difference to the first reward first: the mean of equal floats may differ from them by an
    # ulp, and grpo would blow that up to a full-sized advantage.
    shifted = rewards - rewards[:, :1]
    centred = shifted - shifted.mean(dim=1, keepdim=True)
    if method == "dr_grpo":
        return centred
    if method == "rloo":
        return centred * size / (size - 1)
    return centred / (rewards.std(dim=1, keepdim=True) + epsilon)


def has_signal(advantages: Float[Tensor, "batch group"]) -> Bool[Tensor, " batch"]:
    """Which prompts have a rollout that is better than another: the rest train nothing."""
    return advantages.ne(0).any(dim=1)
