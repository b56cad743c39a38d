"""Two students compared item by item: what one gains over the other, and what could be told."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_vdistill.evaluation.benchmark import ScoredItem
from lit_vdistill.evaluation.scoring import read_items, read_scores
from lit_vdistill.evaluation.settings import differences, read_settings
from lit_vdistill.metrics.intervals import paired_difference
from lit_vdistill.tracking.predictions import StoredPrediction, read_predictions

_ESCAPED = str.maketrans(
    {sign: f"\\{sign}" for sign in "\\`*_[]#"} | {sign: f"&#{ord(sign)};" for sign in "<>|"}
)
_LISTED = 20
"""Wins, and losses, that the page shows; the JSON has all."""


def compared(first: Path, second: Path, score: str | None = None) -> dict[str, Any]:
    """The second run less the first, on the items of both.

    Args:
        first: Folder of a scored run, that the other is held to.
        second: Folder of another, of the same questions.
        score: By what; the benchmark's headline when None.

    Raises:
        FileNotFoundError: When a run was not scored.
        ValueError: For runs of different benchmarks or items, and for a score that no item has.
    """
    told = [read_scores(folder) for folder in (first, second)]
    settings = [read_settings(folder) for folder in (first, second)]
    if len({one["benchmark"] for one in told}) > 1:
        raise ValueError(
            f"runs: {first} is of {told[0]['benchmark']}, {second} of {told[1]['benchmark']}; "
            "expected two of one benchmark"
        )
    name = score or told[0]["headline"]
    before, after = ({item.id: item for item in read_items(folder)} for folder in (first, second))
    pairs = _pairs(before, after, name)
    lows, highs = (
        {item.id: item.values[name] for item in side} for side in zip(*pairs, strict=True)
    )
    found = paired_difference(highs, lows, {one.id: one.cluster for one, _ in pairs})
    changes = [(other.values[name] - one.values[name], one.id) for one, other in pairs]
    wins = sorted((c for c in changes if c[0] > 0), reverse=True)
    losses = sorted(c for c in changes if c[0] < 0)
    answers = [
        {one.sample.id: one for one in read_predictions(folder / "predictions.jsonl")}
        for folder in (first, second)
    ]
    return {
        "benchmark": told[0]["benchmark"],
        "score": name,
        "runs": [str(first), str(second)],
        "students": [one["student"] for one in told],
        "values": [sum(side.values()) / len(side) for side in (lows, highs)],
        "difference": {
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "p": found.p_value,
            "detectable": found.detectable,
            "items": found.count,
            "videos": found.clusters,
            "note": found.note,
        },
        "wins": [_listed(before[name_], change, answers) for change, name_ in wins],
        "losses": [_listed(before[name_], change, answers) for change, name_ in losses],
        "ties": len(changes) - len(wins) - len(losses),
        "settings_that_differ": differences(*settings),
    }


def _pairs(
    before: Mapping[str, ScoredItem], after: Mapping[str, ScoredItem], name: str
) -> list[tuple[ScoredItem, ScoredItem]]:
    if alone := sorted(before.keys() ^ after.keys()):
        raise ValueError(
            f"runs: {len(alone)} items stand in one of them alone, e.g. {alone[0]}; expected the "
            "same questions in both"
        )
    pairs = [(before[key], after[key]) for key in before]
    having = [pair for pair in pairs if all(name in item.values for item in pair)]
    if not having:
        known = sorted({value for one, _ in pairs for value in one.values})
        raise ValueError(f"score '{name}': no item has it; items have {', '.join(known)}")
    return having


def _listed(
    item: ScoredItem, change: float, answers: Sequence[Mapping[str, StoredPrediction]]
) -> dict[str, Any]:
    """An item with what both have answered to its questions."""
    names = item.questions or (item.id,)
    return {
        "id": item.id,
        "video": item.cluster,
        "change": change,
        "questions": [
            {
                "question": answers[0][name].sample.question,
                "truth": answers[0][name].sample.task.true_answer(answers[0][name].sample),
                "answers": [side[name].text for side in answers],
            }
            for name in names
            if all(name in side for side in answers)
        ],
    }


def markdown(found: Mapping[str, Any]) -> str:
    """A page about a comparison."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    one, other = found["students"]
    difference = found["difference"]
    yield f"# {found['benchmark']}: {_cell(other)} less {_cell(one)}, by {found['score']}"
    yield ""
    yield "| student | run | score |"
    yield "|---|---|---|"
    for student, run, value in zip(found["students"], found["runs"], found["values"], strict=True):
        yield f"| {_cell(student)} | {_cell(run)} | {value:.3f} |"
    yield ""
    bounds = f"no interval ({difference['note']})"
    if difference["low"] is not None:
        bounds = f"95 % interval {difference['low']:+.3f} to {difference['high']:+.3f}"
    told = "" if difference["p"] is None else f", p = {difference['p']:.3g}"
    yield (
        f"Difference {difference['value']:+.3f}, {bounds}{told}: paired over "
        f"{difference['items']} items, clustered by {difference['videos']} videos."
    )
    if difference["detectable"] is not None:
        yield (
            f"This set could have shown a difference of {difference['detectable']:.3f} (four times "
            "of five, at 5 %); a smaller one cannot be told here."
        )
    yield (
        f"Better on {len(found['wins'])} items, worse on {len(found['losses'])}, equal on "
        f"{found['ties']}."
    )
    yield "Answers shown below are the greedy ones."
    if found["settings_that_differ"]:
        yield ""
        yield "What else differs between the runs:"
        yield ""
        yield from (f"- {_cell(line)}" for line in found["settings_that_differ"])
    for name in ("wins", "losses"):
        yield from _table(name, found[name], found["students"])


def _table(name: str, rows: Sequence[Mapping[str, Any]], students: Sequence[str]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    more = "" if len(rows) <= _LISTED else f", the largest {_LISTED} of {len(rows)}"
    yield f"## {name.capitalize()}{more}"
    yield ""
    yield f"| item | change | question | truth | {' | '.join(map(_cell, students))} |"
    yield "|---|---|---|---|---|---|"
    for row in rows[:_LISTED]:
        for asked in row["questions"] or [{"question": "", "truth": "", "answers": ["", ""]}]:
            cells = [asked["question"], asked["truth"], *asked["answers"]]
            yield f"| {_cell(row['id'])} | {row['change']:+.2f} | {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """A text on one line of a table, in which nothing is markup."""
    return " ".join(text.split()).translate(_ESCAPED)
