"""What a training run has left in its folder, for pages about it; no torch."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_vdistill import jsonl

CURVES = "csv/metrics.csv"
_REPORTS = {"seconds", "samples", "left_out"}
"""Keys of `summary.json` that are no student's scores."""
_TEXTS = ("sample", "task", "question", "answer", "response")


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over a run: `Series((0, 1), (0.25, None))`."""

    steps: Sequence[int]
    """Optimizer steps that were taken before, ascending."""
    values: Sequence[float | None]
    """None where the run logged what is no number."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run; what was not written is empty or None, and `missing` says so."""

    name: str
    """What pages call it."""
    folder: Path
    curves: Mapping[str, Series]
    config: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, int | float | None]]
    """Of the student before and after, by the names that `RunSummary` gave them."""
    seconds: int | float | None
    card: Mapping[str, Any] | None
    alarms: Sequence[Mapping[str, Any]] | None
    """None where nobody watched."""
    rollouts: Sequence[Mapping[str, Any]]
    """Rows of `RolloutTable`."""
    credits: Sequence[dict[str, Any]]
    """Records of `TokenCreditView`, by step."""
    missing: Sequence[str]
    """What a page cannot show, and what would write it."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the curves."""
        return 1 + max((found.steps[-1] for found in self.curves.values()), default=-1)


def read_training_run(folder: str, name: str) -> TrainingRun:
    """All that a run has left.

    Args:
        folder: Of the run.
        name: What pages call it.

    Raises:
        ValueError: When there are no curves, or a file is not as the run writes it; names file,
            line or key, what was expected and what came.
        OSError: When a file cannot be read.
    """
    root = Path(folder)
    missing: list[str] = []

    def has(file: str, writer: str) -> bool:
        is_there = (root / file).exists()
        if not is_there:
            missing.append(f"{file} is not there; {writer} writes it")
        return is_there

    curves = _curves(root, missing)
    summary = (
        read_object(root / "summary.json") if has("summary.json", "callbacks.RunSummary") else {}
    )
    is_told = has("config.yaml", "every fit")
    is_carded = has("run_card.json", "callbacks.RunCard")
    is_watched = has("health.jsonl", "callbacks.TrainingHealth")
    has_rollouts = has("rollouts.jsonl", "callbacks.RolloutTable")
    return TrainingRun(
        name=name,
        folder=root,
        curves=curves,
        config=_config(root / "config.yaml") if is_told else {},
        scores=_scores(root / "summary.json", summary),
        seconds=_seconds(root / "summary.json", summary),
        card=read_object(root / "run_card.json") if is_carded else None,
        alarms=_rows(root / "health.jsonl", _alarm) if is_watched else None,
        rollouts=_rows(root / "rollouts.jsonl", _rollout) if has_rollouts else (),
        credits=[_credit(path) for path in sorted(root.glob("credit/*.json"))],
        missing=missing,
    )


def _curves(root: Path, remarks: list[str]) -> dict[str, Series]:
    """Of a run that was resumed, too: an older file counts up to where the next one begins."""
    path = root / CURVES
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; expected the folder of a training run with the logger "
            "lit_vdistill.tracking.csv_curves.CSVCurves"
        )
    older = {int(found[1]): other for other in path.parent.glob("metrics.*.csv")
             if (found := re.fullmatch(r"metrics\.(\d{1,9})\.csv", other.name))}  # fmt: skip
    points: dict[str, dict[int, float | None]] = {}
    for file in [*(older[number] for number in sorted(older)), path]:
        found = _points(file, remarks)
        begin = min((step for by_step in found.values() for step in by_step), default=math.inf)
        for name in points.keys() | found.keys():
            kept = {step: y for step, y in points.get(name, {}).items() if step < begin}
            points[name] = kept | found.get(name, {})
    return {
        name: Series(steps := sorted(by_step), [by_step[step] for step in steps])
        for name, by_step in sorted(points.items())
        if by_step
    }


def _points(path: Path, remarks: list[str]) -> dict[str, dict[int, float | None]]:
    """By metric and step; a last line without its end is left out, and that is said."""
    text = path.read_text(encoding="utf-8")
    whole, _, rest = text.rpartition("\n")
    if rest:
        remarks.append(f"{path.name}: its last line has no end (a crash while writing?): left out")
    rows = csv.reader(io.StringIO(whole))
    names = next(rows, [])
    if "step" not in names:
        raise ValueError(f"{path}, line 1: expected a column 'step', got {str(names):.80}")
    points: dict[str, dict[int, float | None]] = {
        n: {} for n in names if n not in ("step", "epoch")
    }
    for row in rows:
        place = f"{path}, line {rows.line_num}"
        if len(row) != len(names):
            raise ValueError(f"{place}: expected {len(names)} columns, got {len(row)}")
        cells = dict(zip(names, row, strict=True))
        step = _number(cells["step"], f"{place}, column 'step'")
        if step is None or step < 0 or step != int(step):
            raise ValueError(f"{place}, column 'step': expected a count, got {cells['step']!r:.40}")
        for name, by_step in points.items():
            if cells[name]:
                by_step[int(step)] = _number(cells[name], f"{place}, column '{name}'")
    return points


def _number(text: str, place: str) -> float | None:
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{place}: expected a number, got {text!r:.40}") from error
    return value if math.isfinite(value) else None


def read_object(path: Path) -> dict[str, Any]:
    """What stands in a JSON file; NaN and infinities, which Python writes, are None."""
    try:
        found = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:  # of JSON and of UTF-8
        raise ValueError(f"{path}: not JSON ({str(error):.80}); write it anew") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object, got {type(found).__name__}")
    return found


def _config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise ValueError(f"{path}: not YAML: {told:.200}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a mapping, got {type(found).__name__}")
    return found


def _scores(path: Path, summary: Mapping[str, Any]) -> dict[str, dict[str, int | float | None]]:
    reports = {name: found for name, found in summary.items() if name not in _REPORTS}
    for name, found in reports.items():
        if not isinstance(found, dict) or not all(map(_is_number, found.values())):
            raise ValueError(f"{path}: '{name}' must be numbers by metric, got {found!r:.80}")
    return reports


def _seconds(path: Path, summary: Mapping[str, Any]) -> int | float | None:
    found = summary.get("seconds")
    if found is not None and not _is_number(found):
        raise ValueError(f"{path}: 'seconds' must be a number, got {found!r:.80}")
    return found


def _rows(path: Path, check: Any) -> list[dict[str, Any]]:
    rows = []
    for place, row in jsonl.read(path):
        if not isinstance(row, dict):
            raise ValueError(f"{place}: expected an object, got {type(row).__name__}")
        check(place, row)
        rows.append(row)
    return rows


def _alarm(place: str, row: Mapping[str, Any]) -> None:
    _expect(place, row, ("alarm", "metric", "statistic", "mend"), ("value", "limit"))


def _rollout(place: str, row: Mapping[str, Any]) -> None:
    numbers = [name for name in row if name.startswith("reward/")]
    _expect(place, row, _TEXTS, ("reward/total", "advantage", *numbers))


def _credit(path: Path) -> dict[str, Any]:
    found = read_object(path)
    texts = ("sample", "question", "answer", "conditioning", "support")
    _expect(str(path), found, texts, ("rollout", "advantage", "mix"))
    return found


def _expect(
    place: str, row: Mapping[str, Any], texts: Sequence[str], numbers: Sequence[str]
) -> None:
    for name in texts:
        if not isinstance(row.get(name), str):
            raise ValueError(f"{place}: '{name}' must be a text, got {row.get(name)!r:.80}")
    if not isinstance(row.get("step"), int):
        raise ValueError(f"{place}: 'step' must be a count, got {row.get('step')!r:.80}")
    for name in numbers:
        if not _is_number(row.get(name)):
            raise ValueError(f"{place}: '{name}' must be a number, got {row.get(name)!r:.80}")


def _is_number(value: Any) -> bool:
    """None stands for what is not known: null, NaN."""
    return value is None or isinstance(value, int | float) and not isinstance(value, bool)
