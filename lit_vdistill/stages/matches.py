"""The teacher side of rollouts: which response of its pool each is matched to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lit_vdistill.data.batch import Item
from lit_vdistill.pool.agreement import agreements, answers_of
from lit_vdistill.pool.matching import (
    MatchingConfig,
    asks_again,
    draw_match,
    matching_distribution,
)
from lit_vdistill.pool.quality import lexical_quality
from lit_vdistill.rewards.verifier import rouge_f1
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
        pool = _scored(item, config)
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


def _scored(item: Item, config: MatchingConfig) -> tuple[ScoredResponse, ...]:
    """The first K responses, or more where these differ, with what they are to be matched by."""
    pool = _valued(item, item.pool[: config.pool_size], config)
    if asks_again([scored.quality for scored in pool], config):
        return _valued(item, item.pool[: config.pool_size_if_unequal], config)
    return pool


def _valued(
    item: Item, pool: tuple[ScoredResponse, ...], config: MatchingConfig
) -> tuple[ScoredResponse, ...]:
    """Responses, open-ended ones with the quality that they are to be matched by."""
    if item.sample.task.is_closed_ended or config.open_ended == "uniform":
        return pool
    if config.open_ended == "lexical":
        qualities = [lexical_quality(scored.response.text, item.sample) for scored in pool]
    else:
        qualities = agreements(answers_of(item.sample, [s.response for s in pool]), rouge_f1)
    return tuple(replace(s, quality=q) for s, q in zip(pool, qualities, strict=True))


def responses_asked(experience: Experience, config: MatchingConfig) -> list[int]:
    """How many teacher responses each prompt has cost, drawn or not."""
    return [len(_scored(item, config)) for item in experience.batch.items]


def check_pool_size(asked: int | None, pools: Mapping[str, Sequence[object]], key: str) -> None:
    """Refuse a K that no pool has: it would be reported as an ablation over K.

    Args:
        asked: K; None = all there are.
        pools: The teacher's responses by sample.
        key: Of the option.

    Raises:
        ValueError: When it is beyond the largest pool, or there is none.
    """
    most = max(map(len, pools.values()), default=0)
    if (asked or 1) > most:
        raise ValueError(
            f"{key} {asked or 1}: no sample of the teacher pool has more than {most} responses "
            "(data.sources.pool_path); collect more, or lower it"
        )


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
