"""Training runs as one page that anyone can open: `python -m lit_vdistill report --runs A B`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_vdistill.media.frames import evenly
from lit_vdistill.tracking.credit_page import record_values, title_of
from lit_vdistill.tracking.page.render import render
from lit_vdistill.tracking.page.tables import names_of
from lit_vdistill.tracking.run_curves import NUM_POINTS, By, cells_of, curve_sections, unshown
from lit_vdistill.tracking.run_folder import TrainingRun, read_training_run
from lit_vdistill.tracking.run_rollouts import num_questions, question_views
from lit_vdistill.tracking.run_tables import alarm_table, card_table, config_tables, score_tables

_TEMPLATE = Path(__file__).with_name("run_page.html.j2")


def report(
    runs: list[str], out: str | None = None, by: By = "run", questions: int = 12, credits: int = 6
) -> None:
    """Write a page about training runs: curves overlaid, rollouts, token credit, settings.

    VISD's figures are parts of it: 3-6 the curves, 7 and 8 the records of `TokenCreditView`.

    Args:
        runs: Folders of runs.
        out: The HTML file; `report.html` in the first run's folder when left out.
        by: A curve a `run`, or one a `cell`: the mean over runs that differ only in their seed.
        questions: Questions that are shown with frames and rollouts, those first that most runs
            have and on which they differ most.
        credits: Rollouts of each run that are shown token by token, evenly over its steps.
    """
    if not runs:
        raise SystemExit("error: runs: expected one folder or more, got none")
    if len(set(runs)) < len(runs):
        raise SystemExit(f"error: runs: expected each folder once, got {runs}")
    for key, count in (("questions", questions), ("credits", credits)):
        if count < 0:
            raise SystemExit(f"error: {key}: expected 0 or more, got {count}")
    target = Path(out or Path(runs[0], "report.html"))
    try:
        found = [read_training_run(*run) for run in zip(runs, names_of(runs), strict=True)]
        text = render(_TEMPLATE, page_values(found, by, questions, credits))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    sys.stdout.write(f"{target}\n")


def page_values(
    runs: Sequence[TrainingRun], by: By, questions: int, credits: int
) -> dict[str, Any]:
    """What the template names; the arguments are those of `report`.

    Raises:
        ValueError: When a record of token credit has not what the page draws.
    """
    scores, by_task = score_tables(runs)
    differing, same = config_tables(runs)
    records = [(run, record) for run in runs for record in evenly(run.credits, credits)]
    return {
        "title": f"Training: {runs[0].name}" if len(runs) == 1 else f"Training: {len(runs)} runs",
        "lead": _lead(runs),
        "runs": runs,
        "cells": {name: [run.name for run in among] for name, among in cells_of(runs).items()}
        if by == "cell"
        else {},
        "scores": scores,
        "by_task": by_task,
        "alarms": alarm_table(runs),
        "sections": curve_sections(runs, by),
        "unshown": unshown(runs),
        "num_points": NUM_POINTS,
        "questions": question_views(runs, questions),
        "num_questions": num_questions(runs),
        "credits": [(run.name, title_of(record), _drawn(run, record)) for run, record in records],
        "num_credits": sum(len(run.credits) for run in runs),
        "differing": differing,
        "same": same,
        "cards": card_table(runs),
    }


def _lead(runs: Sequence[TrainingRun]) -> str:
    stages = {str(model.get("class_path", "")).rpartition(".")[2]
              for run in runs if isinstance(model := run.config.get("model"), dict)}  # fmt: skip
    told = ", ".join(sorted(filter(None, stages))) or "stage not known, as config.yaml is not there"
    steps = ", ".join(f"{run.name}: {run.num_steps} steps" for run in runs)
    return f"{told}. {steps}."


def _drawn(run: TrainingRun, record: dict[str, Any]) -> dict[str, Any]:
    try:
        return record_values(record)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{run.folder}/credit: the record of step {record['step']}, sample "
            f"'{record['sample']}' is not as callbacks.TokenCreditView writes it ({error!r}); "
            "delete the file, or leave records out by --credits 0"
        ) from error
