"""The teacher side of rollouts: which response of its pool each is matched to."""

from collections.abc import Sequence
from dataclasses import dataclass

from lit_vdistill.pool.matching import MatchingConfig, draw_match, matching_distribution
from lit_vdistill.stages.step import Columns, Experience
from lit_vdistill.types import ScoredResponse


@dataclass(frozen=True, slots=True)
class Match:
    """The teacher side of one prompt."""

    responses: tuple[ScoredResponse, ...]
    """Those that can be drawn."""
    probabilities: tuple[float, ...]
    chosen: tuple[int, ...]
    """m(i) of each rollout."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A rollout and its teacher response, as Eq. 7 compares them."""

    group: int
    rollout: int
    response: int
    """Among those that can be drawn for the group."""
    quality: float
    weight: float
    """Of the group in the step."""


def match_teachers(
    experience: Experience, config: MatchingConfig, *, seed: int, step: int
) -> list[Match | None]:
    """m(i) for every rollout of every prompt (R-MSD Eqs. 3-4); None where no response passes.

    A function of seed, step, sample and rollout alone.
    """
    matches: list[Match | None] = []
    for item, group in zip(experience.batch.items, experience.groups, strict=True):
        pool = item.pool[: config.pool_size]
        probabilities = matching_distribution(
            [scored.quality for scored in pool], item.sample.task.is_closed_ended, config
        )
        if probabilities is None:
            matches.append(None)
            continue
        drawable = [(scored, p) for scored, p in zip(pool, probabilities, strict=True) if p > 0]
        responses, weights = zip(*drawable, strict=True)
        chosen = tuple(
            draw_match(weights, seed=seed, sample_id=item.sample.id, rollout=r.index, step=step)
            for r in group.rollouts
        )
        matches.append(Match(responses, weights, chosen))
    return matches


def pairs_of(experience: Experience, matches: Sequence[Match | None]) -> list[Pair]:
    """The pairs that the discriminator learns from.

    A truncated rollout makes none: without its end-of-sequence token it is told apart at a glance.
    """
    rows = zip(experience.groups, matches, experience.group_weights, strict=True)
    return [
        Pair(i, n, match.chosen[n], match.responses[match.chosen[n]].quality, weight)
        for i, (group, match, weight) in enumerate(rows)
        if match is not None
        for n, rollout in enumerate(group.rollouts)
        if not rollout.is_truncated
    ]


def columns(
    experience: Experience, matches: Sequence[Match | None], paid: list[list[float]]
) -> Columns:
    """Matched teacher texts and discriminator rewards for the table of rollouts."""
    texts: list[list[str | float]] = [
        [match.responses[k].response.text for k in match.chosen]
        if match is not None
        else [""] * len(group.rollouts)
        for match, group in zip(matches, experience.groups, strict=True)
    ]
    return {"matched_teacher": texts, "reward/disc": paid}
