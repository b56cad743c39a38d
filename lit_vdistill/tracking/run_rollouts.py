"""Questions of training runs with their frames and the rollouts of each run, side by side."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_vdistill.media.decoder_process import MediaError
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.tracking.frame_source import FrameSource, Pointed, film_of, pointed_by
from lit_vdistill.tracking.page.film import TRUE, Film, series
from lit_vdistill.tracking.run_folder import TrainingRun
from lit_vdistill.tracking.run_media import Records, RunMedia
from lit_vdistill.types import Envelope, VideoSample

Row = Mapping[str, Any]
_PLACED = {"step", "sample", "task", "question", "answer", "response", "truncated", "advantage"}
"""Columns that have a place of their own."""


@dataclass(frozen=True, slots=True)
class RolloutView:
    """One rollout with what it was paid."""

    number: int
    """How often it was sampled."""
    reward: str
    parts: str
    advantage: str
    answer: str
    """Inside of the answer block; the whole response where it has none."""
    think: str
    notes: Sequence[str]
    """Other columns of its row, and that it was cut off."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """The rollouts of one run on a question, at one step."""

    run: str
    kind: str
    """Its colour: a `series`."""
    step: int
    mean: str
    rollouts: Sequence[RolloutView]
    """Those that were paid most first."""


@dataclass(frozen=True, slots=True)
class QuestionView:
    """A question, its frames and the rollouts of all runs."""

    row: Row
    """Any of the rows about it."""
    options: Sequence[str]
    film: Film | None
    notes: Sequence[str]
    """What cannot be shown, and why."""
    groups: Sequence[GroupView]


def question_views(runs: Sequence[TrainingRun], count: int) -> list[QuestionView]:
    """Questions with rollouts: first those that most runs have, and on which they differ most.

    Of a run with several steps on a question the last one is shown. Runs that differ by the same,
    or one alone, are in the order of the spread of rewards within a group.

    Args:
        runs: One or more; questions are joined by the id of their sample.
        count: Questions at the most.
    """
    groups = [_last_groups(run) for run in runs]
    names = sorted({name for found in groups for name in found})
    names.sort(key=lambda name: _rank([found[name] for found in groups if name in found]))
    known: Records = {}
    media = [RunMedia(run, known) for run in runs] if count and names else []
    return [_question(name, runs, groups, media) for name in names[:count]]


def num_questions(runs: Sequence[TrainingRun]) -> int:
    """Questions that any of the runs has rollouts of."""
    return len({row["sample"] for run in runs for row in run.rollouts})


def _last_groups(run: TrainingRun) -> dict[str, list[Row]]:
    """By sample the rows of the last step that has it."""
    found: dict[str, list[Row]] = {}
    for row in run.rollouts:
        among = found.setdefault(row["sample"], [])
        if among and among[0]["step"] < row["step"]:
            among.clear()
        if not among or among[0]["step"] == row["step"]:
            among.append(row)
    return found


def _rank(groups: Sequence[Sequence[Row]]) -> tuple[int, float, float]:
    paid = [_paid(rows) for rows in groups]
    means = [_mean(values) for values in paid if values]
    spread = sum(max(values) - min(values) for values in paid if values)
    return -len(groups), min(means, default=0.0) - max(means, default=0.0), -spread


def _paid(rows: Sequence[Row]) -> list[float]:
    return [row["reward/total"] for row in rows if row["reward/total"] is not None]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _question(
    name: str,
    runs: Sequence[TrainingRun],
    groups: Sequence[Mapping[str, list[Row]]],
    media: Sequence[RunMedia],
) -> QuestionView:
    having = [place for place, found in enumerate(groups) if name in found]
    notes = [f"{run.name} has no rollouts of it." for run, found in zip(runs, groups, strict=True)
             if found and name not in found]  # fmt: skip
    sample, reader = _record(name, [media[place] for place in having], notes)
    film = None
    if sample is not None and sample.media is not None and reader is not None:
        truth = sample.evidence
        pointed = [
            Pointed(TRUE, runs[having[0]].name, reader.in_units("shares"), truth.boxes, truth.spans)
        ]
        for place in having:
            source = media[place].source
            if source is None:
                notes.append(media[place].problem)
                continue
            best = max(groups[place][name], key=_worth)["response"]
            parsed = parse_response(best, media[place].envelope)
            pointed.append(pointed_by(series(place), runs[place].name, source, parsed, truth))
        film = _film(sample, pointed, notes)
    return QuestionView(
        row=groups[having[0]][name][0],
        options=[f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(sample.options)]
        if sample
        else [],
        film=film,
        notes=notes,
        groups=[
            _group(runs[place].name, series(place), groups[place][name], media[place].envelope)
            for place in having
        ],
    )


def _record(
    name: str, media: Sequence[RunMedia], notes: list[str]
) -> tuple[VideoSample | None, FrameSource | None]:
    """The record of a question, from the first run that has it."""
    for one in media:
        if name in one.samples:
            return one.samples[name], one.source
    notes += [one.problem or "its record is not in the run's training files" for one in media[:1]]
    return None, None


def _film(sample: VideoSample, pointed: Sequence[Pointed], notes: list[str]) -> Film | None:
    assert sample.media is not None
    try:
        times = pointed[0].source.read(sample.media, sample.media_type, ()).times_s
        film, undrawn = film_of(sample.media, sample.media_type, times, pointed)
    except MediaError as error:
        notes.append(f"The medium cannot be read here, so that no frame is shown: {error}")
        return None
    notes += [
        f"{count} boxes of {name} are not drawn: their units are not known (data.prompt.box_units "
        "of its config; for pixels student/processor_config.json in its folder, too)."
        for name, count in undrawn.items()
    ]
    return film


def _group(run: str, kind: str, rows: Sequence[Row], envelope: Envelope) -> GroupView:
    paid = _paid(rows)
    ranked = sorted(rows, key=_worth, reverse=True)
    counts = Counter(map(_same, ranked))
    # Of equal ones the first stands for all.
    shown = {_same(row): row for row in reversed(ranked)}
    mean = f"mean reward {_mean(paid):.3f}" if paid else "no rewards"
    return GroupView(
        run,
        kind,
        rows[0]["step"],
        mean,
        [_rollout(shown[key], number, envelope) for key, number in counts.items()],
    )


def _same(row: Row) -> tuple[Any, ...]:
    return row["response"], row["reward/total"], row["advantage"]


def _rollout(row: Row, number: int, envelope: Envelope) -> RolloutView:
    parsed = parse_response(row["response"], envelope)
    parts = {name: value for name, value in row.items()
             if name.startswith("reward/") and name != "reward/total"}  # fmt: skip
    others = [f"{name}: {value}" for name, value in row.items()
              if name not in _PLACED and not name.startswith("reward/")]  # fmt: skip
    return RolloutView(
        number=number,
        reward=_figure(row["reward/total"], ".3f"),
        parts=", ".join(
            f"{n.removeprefix('reward/')} {_figure(v, '.2f')}" for n, v in parts.items()
        ),
        advantage=_figure(row["advantage"], "+.3f"),
        answer=parsed.answer or row["response"] or "no response",
        think=parsed.think,
        notes=[*(["cut off at the most tokens"] if row.get("truncated") else []), *others],
    )


def _worth(row: Row) -> float:
    found = row["reward/total"]
    return -math.inf if found is None else found


def _figure(value: float | None, how: str) -> str:
    return "not known" if value is None else format(value, how)
