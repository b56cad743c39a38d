"""What a reward is, and how several make one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from lit_vdistill.responses.grammar import ParsedResponse, parse_response
from lit_vdistill.types import VideoSample


class Reward(ABC):
    """A pure score in [0, 1] of one parsed response, with its weight in the composite."""

    name: ClassVar[str]
    """Key in the reward breakdown and in the logs (`reward/<name>`)."""

    def __init__(self, weight: float = 1.0) -> None:
        """Remember the weight.

        Args:
            weight: Factor in the composite reward (R-MSD Eq. 6).
        """
        self.weight = weight

    def applies_to(self, sample: VideoSample) -> bool:
        """Whether the sample has what this reward compares with; where not, it scores 0."""
        return True

    @abstractmethod
    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score a response against the truth of its sample."""


def reward_breakdown(rewards: Sequence[Reward], text: str, sample: VideoSample) -> dict[str, float]:
    """Every reward of one response, unweighted, by name."""
    response = parse_response(text)
    return {reward.name: reward(response, sample) for reward in rewards}


def composite_reward(rewards: Sequence[Reward], breakdown: Mapping[str, float]) -> float:
    """Weighted sum of the rule rewards: the last three terms of R-MSD Eq. 6.

    The discriminator's term is added by the stage, which owns the discriminator.
    """
    return sum(reward.weight * breakdown[reward.name] for reward in rewards)


def rule_score(
    rewards: Sequence[Reward], breakdown: Mapping[str, float], sample: VideoSample
) -> float:
    """The composite of the rule rewards as a share of the sample's maximum, in [0, 1].

    Comparable between stages with and without a discriminator.
    """
    total = sum(reward.weight for reward in rewards if reward.applies_to(sample))
    return composite_reward(rewards, breakdown) / total if total else 0.0
