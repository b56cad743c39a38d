"""Scores, alarms, cards and settings of training runs side by side."""

from collections.abc import Sequence
from typing import Any

from lit_vdistill.tracking.page.tables import Cell, Column, Table, flattened, keys_of, side_by_side
from lit_vdistill.tracking.run_folder import TrainingRun


def score_tables(runs: Sequence[TrainingRun]) -> tuple[Table, Table]:
    """Held-out scores before and after each run: those over all tasks, and those by task.

    A cell has the score after the run; below it stands what it was before, where that is known.
    """
    metrics = keys_of([found for run in runs for found in run.scores.values()])
    whole = [name for name in metrics if "/" not in name and name != "step"]
    by_task = [name for name in metrics if "/" in name]
    columns = [Column("score"), *(Column(run.name, _ends(run), is_number=True) for run in runs)]
    rows = {name: [Cell(name), *(_score(run, name) for run in runs)] for name in metrics}
    seconds = [Cell("seconds"), *(Cell(_figure(run.seconds, 0)) for run in runs)]
    steps = [Cell("steps"), *(Cell(str(run.num_steps)) for run in runs)]
    first = Table(columns, [*(rows[name] for name in whole), steps, seconds])
    return first, Table(columns, [rows[name] for name in by_task])


def _ends(run: TrainingRun) -> str:
    return " → ".join(run.scores) or "no summary.json"


def _score(run: TrainingRun, name: str) -> Cell:
    reports = list(run.scores.values())
    if not reports or name not in reports[-1]:
        return Cell("")
    after = reports[-1][name]
    before = reports[0].get(name) if len(reports) > 1 else None
    if before is None or after is None:
        return Cell(_figure(after))
    return Cell(_figure(after), (f"before {before:.3f}, {after - before:+.3f}",))


def _figure(value: int | float | None, digits: int = 3) -> str:
    return "not known" if value is None else f"{value:.{digits}f}"


def alarm_table(runs: Sequence[TrainingRun]) -> Table:
    """What `TrainingHealth` found, a row an alarm, and a row a run without any."""
    columns = [Column("run"), Column("alarm"), Column("step", is_number=True), Column("found"),
               Column("what usually helps")]  # fmt: skip
    rows: list[list[Cell]] = []
    for run in runs:
        if not run.alarms:
            told = "not watched (callbacks.TrainingHealth)" if run.alarms is None else "none"
            rows.append([Cell(run.name), Cell(told), Cell(""), Cell(""), Cell("")])
        for alarm in run.alarms or ():
            found = f"{alarm['statistic']} of {alarm['metric']} {_figure(alarm['value'])}"
            rows.append(
                [Cell(run.name), Cell(alarm["alarm"], is_marked=True), Cell(str(alarm["step"])),
                 Cell(f"{found}, beyond {_figure(alarm['limit'])}"), Cell(alarm["mend"])]
            )  # fmt: skip
    return Table(columns, rows)


def card_table(runs: Sequence[TrainingRun]) -> Table | None:
    """The run cards, what differs first; None where no run has one."""
    cards = {run.name: dict(run.card or {}) for run in runs}
    return side_by_side("run card", cards) if any(cards.values()) else None


def config_tables(runs: Sequence[TrainingRun]) -> tuple[Table | None, Table]:
    """The settings that differ between runs, None where there is one run; and the others."""
    table = side_by_side("setting", {run.name: settings_of(run) for run in runs})
    differing = [row for row in table.rows if row[-1].is_marked]
    same = [row for row in table.rows if not row[-1].is_marked]
    return Table(table.columns, differing) if len(runs) > 1 else None, Table(table.columns, same)


def settings_of(run: TrainingRun) -> dict[str, str]:
    """The config as `a.b` and texts: classes of a list by name, the run's own folder as `…`.

    So runs that differ by nothing but where they write have equal settings but `run_dir`.
    """
    flat = dict(flattened(_by_class(dict(run.config)))) if run.config else {}
    folder = run.config.get("run_dir")
    if not isinstance(folder, str) or not folder.strip("./"):
        return flat
    return {
        key: text if key == "run_dir" else text.replace(folder, "…") for key, text in flat.items()
    }


def _by_class(value: Any) -> Any:
    """Lists of `class_path` and `init_args` as what can be compared, option by option."""
    if isinstance(value, dict):
        return {name: _by_class(inner) for name, inner in value.items()}
    if not isinstance(value, list) or not value or not all(map(_is_class, value)):
        return value
    found: dict[str, Any] = {}
    for entry in value:
        name = entry["class_path"].rpartition(".")[2]
        number = 1 + sum(known.partition(" ")[0] == name for known in found)
        options = _by_class(entry.get("init_args") or {})
        found[name if number == 1 else f"{name} {number}"] = options or "no options"
    return found


def _is_class(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_path"), str)
