"""Figures of a cell by seed, and their mean and difference with an interval over seeds."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from experiments.results import Record
from lit_vdistill.metrics.intervals import (
    Difference,
    Estimate,
    clustered_function,
    paired_difference,
)
from lit_vdistill.world.scenes import Split

SPREADS = Path("experiments/spreads.json")
REWARD, NORM = "reward/total", "policy/grad_norm"
Runs = Mapping[int, Record]
"""Results of a cell by seed."""


class MissingError(ValueError):
    """A figure that a result does not have."""


def figure_of(record: Record, figure: str, split: Split, *, is_before: bool = False) -> float:
    """One figure of one run; `CLAIMS.md` says what each is.

    Args:
        record: Of a finished cell.
        figure: `final_reward`, `grad_norm`, or a mean of answers such as `mean/ocr`.
        split: Of the answers.
        is_before: Of the student that the run started from.

    Raises:
        MissingError: Where the run has not measured it.
    """
    place = f"{record['sweep']}/{record['cell']}, seed {record['seed']}"
    if figure in ("final_reward", "grad_norm"):
        name = REWARD if figure == "final_reward" else NORM
        if name not in record["training"]:
            raise MissingError(f"{place}: has logged no {name}")
        value = record["training"][name]["final"]
        return value if figure == "final_reward" else math.log(value)
    answers = record["before" if is_before else "after"].get(split, {})
    if figure not in answers:
        raise MissingError(f"{place}: has no {figure} on {split}; it has {sorted(answers)}")
    return answers[figure]


def level(runs: Runs, figure: str, split: Split) -> Estimate | None:
    """Mean of a figure over seeds; None without one, and for what only a pair has."""
    if figure == "steps_saved":
        return None
    values = [pair[0] for run in runs.values() if (pair := _pair(run, run, figure, split))]
    # As numbers, not as shares, whose interval is another where all are 0.
    columns = {"value": values}
    seeds = range(len(values))
    return clustered_function(columns, seeds, lambda m: m["value"]) if values else None


def difference(
    runs: Runs, others: Runs, figure: str, split: Split, *, is_before: bool = False
) -> Difference | None:
    """A cell less another, paired by seed; None where no seed has both.

    Args:
        runs: Of the cell.
        others: Of the other.
        figure: As in `CLAIMS.md`; `steps_saved` and `variance` are of pairs alone.
        split: Of the answers.
        is_before: Compare with the student that the runs started from.
    """
    pairs = {
        str(seed): pair
        for seed in sorted(runs.keys() & others.keys())
        if (pair := _pair(runs[seed], others[seed], figure, split, is_before=is_before)) is not None
    }
    if not pairs:
        return None
    ours, theirs = ({seed: pair[side] for seed, pair in pairs.items()} for side in (0, 1))
    return paired_difference(ours, theirs, {seed: seed for seed in pairs})


def _pair(
    record: Record, other: Record, figure: str, split: Split, *, is_before: bool = False
) -> tuple[float, float] | None:
    """A figure of both, which `steps_saved` and `variance` are as a whole; None if not measured."""
    if figure in ("steps_saved", "variance"):
        whole = (
            _saved(record, other) if figure == "steps_saved" else _variance(record, other, split)
        )
        return None if whole is None else (whole, 0.0)
    try:
        theirs = figure_of(other, figure, split, is_before=is_before)
        return figure_of(record, figure, split), theirs
    except MissingError:
        return None


def never_reached(runs: Runs, others: Runs) -> list[int]:
    """Seeds with which a cell never reaches the other's final reward."""
    return [
        seed
        for seed in sorted(runs.keys() & others.keys())
        if REWARD in runs[seed]["curves"] and REWARD in others[seed]["curves"]
        and _first_at(_smooth(runs[seed]), _smooth(others[seed])[-1][1]) is None
    ]  # fmt: skip


def _saved(record: Record, other: Record) -> float | None:
    """Share of the other's steps that a run does not need to come to its final reward."""
    if REWARD not in record["curves"] or REWARD not in other["curves"]:
        return None
    theirs = _smooth(other)
    goal = theirs[-1][1]
    took = _first_at(_smooth(record), goal)
    needed = _first_at(theirs, goal)
    assert needed is not None
    return 1.0 - (record["steps"] if took is None else took) / needed


def _smooth(record: Record) -> list[tuple[float, float]]:
    """The reward's curve as a moving mean over a tenth of its points."""
    curve = record["curves"][REWARD]
    size = max(1, len(curve) // 10)
    return [
        (curve[end][0], statistics.mean(value for _, value in curve[end - size + 1 : end + 1]))
        for end in range(size - 1, len(curve))
    ]


def _first_at(curve: Sequence[tuple[float, float]], goal: float) -> float | None:
    return next((step for step, value in curve if value >= goal), None)


def _variance(record: Record, other: Record, split: Split) -> float | None:
    """Correlation over tasks of the gain in `mean` with the teacher's spread within a question.

    None for fewer than three tasks, and where all gain the same.
    """
    ours, theirs = (r["after"].get(split, {}) for r in (record, other))
    known = [
        (ours[key] - theirs[key], spread)
        for task, spread in _spreads().items()
        if (key := f"mean/{task}") in ours and key in theirs
    ]
    if len(known) < 3 or len({gain for gain, _ in known}) == 1:
        return None
    return statistics.correlation(*zip(*known, strict=True))


@cache
def _spreads() -> dict[str, float]:
    """The teacher's standard deviation within a question, by task."""
    found = json.loads(SPREADS.read_text(encoding="utf-8"))
    return {task: row["within"] for task, row in found.items() if task != "all"}
