"""Scores for people: a row a task, and a row a level where samples have one."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from rich.table import Table

Scores = Mapping[str, int | float]
"""By metric, `<name>/<task>` beside `<name>`."""
_SHOWN = ("score", "reward")
_SAMPLED = "mean_at_"


def columns_of(scores: Scores) -> list[str]:
    """The metrics of samples, the greedy answer's first; tasks that no rule pays have no reward."""
    sampled = [name for name in scores if name.startswith(_SAMPLED) and "/" not in name]
    return [name for name in ("score", *sampled, "reward") if name in scores]


def by_task(title: str, reports: Sequence[Scores], num_samples: Mapping[str, int]) -> Table:
    """A row a task with its scores, one behind another where there are several reports.

    Args:
        title: Stands above it.
        reports: Of one student, or of several on the same samples.
        num_samples: How many samples each score is about.
    """
    columns = columns_of(reports[-1])
    table = _begun(title, "task", columns)
    rows = [name.partition("/")[2] for name in reports[-1] if name.startswith(f"{columns[0]}/")]
    for task in ("", *rows):
        keys = [f"{column}/{task}" if task else column for column in columns]
        if all(keys[0] in report for report in reports):
            cells = [_cell(key, reports) for key in keys]
            count = str(num_samples[keys[0]])
            table.add_row(task or "overall", count, *cells, end_section=not task)
    *_, last = reports
    others = [name for name in last if "/" not in name and name not in (*columns, "step")]
    table.caption = ", ".join(
        f"{name} {last[name]:.3f} ({num_samples[name]})" for name in others if name in num_samples
    )
    return table


def by_level(levels: Mapping[str, Scores]) -> Table:
    """A row a level, as `level_scores` gives them."""
    columns = columns_of({name: 0.0 for scores in levels.values() for name in scores})
    table = _begun("", "level", columns)
    for level, scores in levels.items():
        cells = [_cell(column, [scores]) for column in columns]
        table.add_row(level, str(round(scores["samples"])), *cells)
    return table


def level_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int | float]]:
    """Mean scores by level, and how many `samples` each has; nothing where none is named.

    Args:
        rows: Of `tracking.predictions`; levels stand in `meta`, and come in the order of the rows.
    """
    found: dict[str, list[Scores]] = {}
    for row in rows:
        if "level" in row["meta"]:
            found.setdefault(str(row["meta"]["level"]), []).append(row["scores"])
    return {
        level: {
            **{
                name: mean(scores[name] for scores in among if name in scores)
                for name in columns_of({name: 0.0 for scores in among for name in scores})
            },
            "samples": len(among),
        }
        for level, among in found.items()
    }


def _cell(key: str, reports: Sequence[Scores]) -> str:
    """A score in all reports; empty where nothing is paid, so that there is none."""
    if not all(key in report for report in reports):
        return ""
    return " -> ".join(f"{report[key]:.3f}" for report in reports)


def _begun(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title or None, caption_justify="left")
    table.add_column(first)
    for column in ("samples", *columns):
        table.add_column(column, justify="right")
    return table
