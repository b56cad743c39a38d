"""A benchmark's runs as a page and a Markdown file: `evaluate report`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_vdistill.evaluation.run_files import Run, read_run
from lit_vdistill.tracking.page.render import render
from lit_vdistill.tracking.page.tables import names_of


def report(runs: list[str], folder: str | None = None, items: int = 40) -> None:
    """Write what students reached on a benchmark, side by side: report.md and report.html.

    Args:
        runs: Folders of runs on one benchmark.
        folder: Where the two files go; the first run's when left out.
        items: Questions that the page shows with their frames, those first on which runs differ,
            then those that are answered worst.
    """
    if not runs:
        raise SystemExit("error: runs: expected one folder or more, got none")
    if len(set(runs)) < len(runs):
        raise SystemExit(f"error: runs: expected each folder once, got {runs}")
    if items < 0:
        raise SystemExit(f"error: items: expected 0 or more, got {items}")
    try:
        found = [read_run(*run) for run in zip(runs, names_of(runs), strict=True)]
        _check_alike(found)
        target = Path(folder or runs[0])
        _write(target, report_values(found, items))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    sys.stdout.write(f"{target / 'report.html'}\n{target / 'report.md'}\n")


def report_values(runs: Sequence[Run], items: int) -> dict[str, Any]:
    """What both templates name.

    Args:
        runs: One or more, of one benchmark.
        items: Questions that are shown.

    Raises:
        ValueError: When settings do not say how frames were read.
    """
    from lit_vdistill.evaluation import report_tables as tables
    from lit_vdistill.evaluation.report_items import in_order, item_views

    first = runs[0]
    has_groups = any(run.groups for run in runs)
    return {
        "title": f"{first.benchmark}: {first.name if len(runs) == 1 else f'{len(runs)} students'}",
        "lead": _lead(runs),
        "runs": runs,
        "scores": tables.score_table(runs),
        "score_chart": tables.score_chart(runs),
        "has_published": bool(first.published),
        "groups": tables.group_table(runs) if has_groups else None,
        "group_charts": tables.group_charts(runs),
        "problems": tables.problem_table(runs),
        "pass_chart": tables.pass_chart(runs),
        "pass_table": tables.pass_table(runs),
        "items": item_views(runs, items),
        "num_items": len(in_order(runs)),
        "settings": tables.settings_table(runs),
        "remarks": list(dict.fromkeys(text for run in runs for text in run.remarks)),
    }


def _lead(runs: Sequence[Run]) -> str:
    counts = {f"{run.questions} questions about {run.videos} videos" for run in runs}
    told = (
        counts.pop()
        if len(counts) == 1
        else "; ".join(
            f"{run.name}: {run.questions} questions, {run.videos} videos" for run in runs
        )
    )
    return f"{told}. Headline score: {runs[0].headline}."


def _check_alike(runs: Sequence[Run]) -> None:
    """Refuse runs that cannot stand side by side."""
    for key in ("benchmark", "headline"):
        values = {run.name: getattr(run, key) for run in runs}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name}: {value}" for name, value in values.items())
            raise ValueError(
                f"runs: expected one {key}, got {told}; write a report for each benchmark"
            )


def _write(folder: Path, values: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "report.md"):
        template = Path(__file__).with_name(f"{name}.j2")
        (folder / name).write_text(render(template, values), encoding="utf-8")
