"""What a reward is, and how several make one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lit_vdistill.responses.grammar import ParsedResponse, parse_response
from lit_vdistill.types import Rollout, VideoSample


class RewardError(RuntimeError):
    """A reward that does not do what a reward must."""


class Reward(ABC):
    """A pure score in [0, 1] of one parsed response, with its weight in the composite."""

    name: str
    """Key in the reward breakdown and in the logs (`reward/<name>`)."""

    def __init__(self, weight: float = 1.0, name: str | None = None) -> None:
        """Remember the weight.

        Args:
            weight: Factor in the composite reward (R-MSD Eq. 6).
            name: A name of its own, where two rewards of one class stand in a list.
        """
        self.weight = weight
        if name is not None:
            self.name = name

    def applies_to(self, sample: VideoSample) -> bool:
        """Whether the sample has what this reward compares with; where not, it scores 0."""
        return True

    @abstractmethod
    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score a response against the truth of its sample."""


def reward_breakdown(
    rewards: Sequence[Reward], response: Rollout | str, sample: VideoSample
) -> dict[str, float]:
    """Every reward of one response, unweighted, by name.

    Args:
        rewards: Of different names.
        response: A rollout, or the text of a response that was not sampled here.
        sample: Its truth.

    Raises:
        RewardError: When a reward raises, or gives no finite number; names it and the sample.
    """
    if isinstance(response, Rollout):
        parsed = replace(parse_response(response.text, sample.envelope), rollout=response)
    else:
        parsed = parse_response(response, sample.envelope)
    return {reward.name: _paid(reward, parsed, sample) for reward in rewards}


def _paid(reward: Reward, parsed: ParsedResponse, sample: VideoSample) -> float:
    try:
        paid = float(reward(parsed, sample))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise RewardError(_refused(reward, parsed, sample, reason)) from error
    if not math.isfinite(paid):
        raise RewardError(_refused(reward, parsed, sample, f"it is {paid}"))
    return paid


def _refused(reward: Reward, parsed: ParsedResponse, sample: VideoSample, reason: str) -> str:
    said = f"{parsed.think[-100:]!r} … {parsed.answer[:100]!r}"
    return (
        f"reward '{reward.name}' must give a finite number for every response, but for sample "
        f"{sample.id}, reasoning and answer {said}: {reason}"
    )


def composite_reward(rewards: Sequence[Reward], breakdown: Mapping[str, float]) -> float:
    """Weighted sum of the rule rewards: the last three terms of R-MSD Eq. 6.

    The discriminator's term is added by the stage, which owns the discriminator.
    """
    return sum(reward.weight * breakdown[reward.name] for reward in rewards)


def rule_score(
    rewards: Sequence[Reward], breakdown: Mapping[str, float], sample: VideoSample
) -> float | None:
    """The composite of the rule rewards as a share of the sample's maximum, in [0, 1].

    A perfect response scores 1 whatever its task: who does not apply to a sample is not in its
    maximum. Comparable between stages with and without a discriminator.

    Returns:
        None where no rule pays for the sample: there is no share of nothing.
    """
    total = sum(reward.weight for reward in rewards if reward.applies_to(sample))
    return composite_reward(rewards, breakdown) / total if total else None
