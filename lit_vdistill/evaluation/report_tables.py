"""Scores, groups, failures and settings of runs side by side, as tables and charts."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lit_vdistill.evaluation.run_files import Run, Score, Scores
from lit_vdistill.tracking.page.charts import Chart, Curve, Interval, bars, intervals, lines
from lit_vdistill.tracking.page.tables import Cell, Column, Table, keys_of, side_by_side

_NOT_COMPARED = "another model and data: not compared"


def score_table(runs: Sequence[Run]) -> Table:
    """A row a score, a column a run; beside them the papers' rows, of other models and data."""
    rows, by_run = runs[0].published, [run.scores for run in runs]
    columns = [Column("score")]
    columns += [Column(run.name, run.student, is_number=True) for run in runs]
    columns += [
        Column(row.model, f"{row.source}; {_NOT_COMPARED}", is_number=True, is_quiet=True)
        for row in rows
    ]
    published = {name for row in rows for name in row.values}
    names = keys_of([*by_run, dict.fromkeys(sorted(published))])
    return Table(
        columns,
        [
            [
                Cell(name, (*_described(name, runs), *_counted(by_run, name))),
                *(_score_cell(run, name, by_run) for run in runs),
                *(Cell(f"{row.values[name]:.3f}" if name in row.values else "") for row in rows),
            ]
            for name in names
        ],
    )


def score_chart(runs: Sequence[Run]) -> Chart:
    """Every score with its interval."""
    names = keys_of([run.scores for run in runs])
    title = "Scores, 95 % intervals clustered by video; hollow: no interval"
    return intervals(title, names, {run.name: _intervals(run.scores, names) for run in runs})


def group_table(runs: Sequence[Run]) -> Table:
    """A row a part of the benchmark and score, a column a run."""
    rows = []
    for group in _groups(runs):
        by_run = [run.groups.get(group, {}) for run in runs]
        rows += [
            [
                Cell(group),
                Cell(name, _counted(by_run, name)),
                *(_cell(scores, name, by_run) for scores in by_run),
            ]
            for name in keys_of(by_run)
        ]
    return Table([Column("part"), Column("score"), *map(_head, runs)], rows)


def group_charts(runs: Sequence[Run]) -> list[Chart]:
    """The headline score by part, a chart a kind of part, e.g. `duration`."""
    kinds: dict[str, list[str]] = {}
    for group in _groups(runs):
        kinds.setdefault(group.partition("/")[0], []).append(group)
    headline = runs[0].headline
    return [
        bars(
            f"{headline} by {kind}, 95 % intervals",
            [group.partition("/")[2] or group for group in groups],
            {
                run.name: [_interval(run.groups.get(group, {}).get(headline)) for group in groups]
                for run in runs
            },
        )
        for kind, groups in kinds.items()
    ]


def problem_table(runs: Sequence[Run]) -> Table:
    """Answers from which nothing could be read, and media that could not: how many, by reason."""
    reasons = keys_of([run.problems for run in runs])

    def cell(run: Run, count: int) -> Cell:
        return Cell(f"{count} ({count / run.questions:.1%})" if run.questions else str(count))

    rows = [
        [Cell(reason), *(cell(run, run.problems.get(reason, 0)) for run in runs)]
        for reason in reasons
    ]
    total = [Cell("together"), *(cell(run, sum(run.problems.values())) for run in runs)]
    return Table([Column("reason"), *map(_head, runs)], [*rows, total])


def pass_chart(runs: Sequence[Run]) -> Chart | None:
    """pass@k of each run, and what guessing among the options reaches; None where none has it."""
    curves = [
        Curve(run.name, found.k, found.value, found.low, found.high)
        for run in runs
        if (found := run.pass_at_k)
    ]
    curves += [Curve(name, found.k, found.guess) for name, found in _guesses(runs) if found.guess]
    title = "pass@k, unbiased, with 95 % intervals"
    return lines(title, "k, answers to a question", curves, is_log=True) if curves else None


def pass_table(runs: Sequence[Run]) -> Table | None:
    """The figures of `pass_chart`; None where no run has them."""
    curves = [(run, run.pass_at_k) for run in runs if run.pass_at_k]
    if not curves:
        return None
    guesses = [(name, found) for name, found in _guesses(runs) if found.guess]
    columns: list[dict[int, Cell]] = [
        {
            k: _cell_of(Interval(*numbers))
            for k, *numbers in zip(found.k, found.value, found.low, found.high, strict=True)
        }
        for _, found in curves
    ]
    columns += [
        {k: Cell(_figure(value)) for k, value in zip(found.k, found.guess or (), strict=True)}
        for _, found in guesses
    ]
    heads = [*(_head(run) for run, _ in curves), *(Column(n, is_number=True) for n, _ in guesses)]
    every = sorted({k for column in columns for k in column})
    return Table(
        [Column("k"), *heads],
        [[Cell(str(k)), *(column.get(k, Cell("")) for column in columns)] for k in every],
    )


def settings_table(runs: Sequence[Run]) -> Table:
    """Every setting of every run; those in which they differ are marked and come first."""
    table = side_by_side("setting", {run.name: run.settings for run in runs})
    folders = [Cell("folder of the run"), *(Cell(str(run.folder)) for run in runs)]
    return Table(table.columns, [folders, *table.rows])


def _guesses(runs: Sequence[Run]) -> list[tuple[str, Any]]:
    """The curves of guessing, once where they are equal, as they are on equal questions."""
    found = [(run.name, run.pass_at_k) for run in runs if run.pass_at_k and run.pass_at_k.guess]
    is_one = all(a[1].guess == b[1].guess and a[1].k == b[1].k for a, b in pairwise(found))
    if is_one:
        return [("guessing", curve) for _, curve in found[:1]]
    return [(f"guessing, questions of {name}", curve) for name, curve in found]


def _head(run: Run) -> Column:
    return Column(run.name, is_number=True)


def _described(name: str, runs: Sequence[Run]) -> tuple[str, ...]:
    described = runs[0].descriptions.get(name)
    return (described,) if described else ()


def _score_cell(run: Run, name: str, among: Sequence[Scores]) -> Cell:
    """A score, and below it what the student reaches by the text alone."""
    cell = _cell(run.scores, name, among)
    if run.blind is None or name not in run.scores:
        return cell
    alone = run.blind.scores.get(name)
    told = "not known" if alone is None or alone.value is None else f"{alone.value:.3f}"
    return Cell(cell.text, (*cell.notes, f"text alone {told}"))


def _counted(among: Sequence[Scores], name: str) -> tuple[str, ...]:
    """What a score is a mean over, where that is the same in all runs that have it."""
    counts = {_count(scores[name]) for scores in among if name in scores}
    return tuple(counts) if len(counts) == 1 else ()


def _count(score: Score) -> str:
    return f"n {score.items}, {score.videos} videos"


def _cell(scores: Scores, name: str, among: Sequence[Scores]) -> Cell:
    """A score with its interval, and what it is a mean over where runs differ in that."""
    if name not in scores:
        return Cell("")
    cell = _cell_of(_interval(scores[name]))
    own = () if _counted(among, name) else (_count(scores[name]),)
    return Cell(cell.text, (*cell.notes, *own))


def _cell_of(found: Interval) -> Cell:
    if found.value is None:
        return Cell("none")
    if found.low is None or found.high is None:
        return Cell(_figure(found.value), ("no interval",))
    return Cell(_figure(found.value), (f"{found.low:.3f} to {found.high:.3f}",))


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _interval(score: Score | None) -> Interval:
    return Interval(None) if score is None else Interval(score.value, score.low, score.high)


def _intervals(scores: Scores, names: Sequence[str]) -> list[Interval]:
    return [_interval(scores.get(name)) for name in names]


def _groups(runs: Sequence[Run]) -> list[str]:
    return keys_of([run.groups for run in runs])
