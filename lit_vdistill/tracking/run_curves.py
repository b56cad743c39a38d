"""Curves of training runs overlaid, a chart a metric (VISD Figures 3-6)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lit_vdistill.tracking.page.charts import Chart, Curve, lines
from lit_vdistill.tracking.page.tables import keys_of
from lit_vdistill.tracking.run_folder import Series, TrainingRun
from lit_vdistill.tracking.run_tables import settings_of

By = Literal["run", "cell"]
NUM_POINTS = 60
"""Of a curve at the most; a point is the mean of its share of steps, the band their range."""
_FIRST = {
    "reward": ("reward/total",),
    "policy": (
        "policy/entropy", "policy/grad_norm", "rollout/length", "rollout/truncated",
        "rollout/no_signal", "rollout/reward_std", "kl/ref", "train/loss",
    ),
    "val": ("val/score", "val/reward"),
    "disc": ("disc/accuracy", "disc/margin", "disc/reward_share"),
    "credit": ("credit/lambda",),
}  # fmt: skip
"""By section, what comes first; others of its areas follow."""
_AREAS = {
    "reward": "reward", "policy": "policy", "rollout": "policy", "kl": "policy", "train": "policy",
    "val": "val", "disc": "disc", "match": "disc", "credit": "credit", "judge": "credit",
    "distill": "credit", "perf": "cost", "time": "cost",
}  # fmt: skip
_TITLES = {
    "reward": "Rewards, whole and by part",
    "policy": "Policy: gradient norm, entropy, completions",
    "val": "Held out",
    "disc": "Discriminator and matching",
    "credit": "Token credit and judge",
    "other": "Other metrics",
    "cost": "Seconds and memory",
}
_UNSHOWN = {"data", "shared", "step", "verify", "health"}
"""Areas that are bookkeeping, or shown as a table."""


@dataclass(frozen=True, slots=True)
class CurveSection:
    """Charts that belong together."""

    key: str
    title: str
    names: Sequence[str]
    """Of the curves, in the order of their colours: one legend for all charts."""
    charts: Sequence[Chart]


def curve_sections(runs: Sequence[TrainingRun], by: By) -> list[CurveSection]:
    """The charts of all metrics that any run has, sections without one left out.

    Metrics by task (`val/score/ocr`) are not drawn: tables have them.

    Args:
        runs: One or more.
        by: A curve a `run`; or one a `cell`, the mean over the runs that differ only in their seed,
            with the range of the runs as its band.
    """
    groups = {run.name: [run] for run in runs} if by == "run" else cells_of(runs)
    names = [name for name in keys_of([run.curves for run in runs]) if name.count("/") == 1]
    sections: dict[str, list[str]] = {key: [] for key in _TITLES}
    for name in names:
        area = name.partition("/")[0]
        if area not in _UNSHOWN:
            sections[_AREAS.get(area, "other")].append(name)
    return [
        CurveSection(
            key,
            _TITLES[key],
            list(groups),
            [_chart(name, groups) for name in _in_order(key, found)],
        )
        for key, found in sections.items()
        if found
    ]


def unshown(runs: Sequence[TrainingRun]) -> list[str]:
    """Areas of metrics of which no curve is drawn."""
    names = keys_of([run.curves for run in runs])
    return sorted({area for name in names if (area := name.partition("/")[0]) in _UNSHOWN})


def cells_of(runs: Sequence[TrainingRun]) -> dict[str, list[TrainingRun]]:
    """Runs that differ only in their seed together, named after the first of them.

    Compared are the configs without seeds and without the run's own folder and name; a run without
    a config is a cell of its own.
    """
    found: dict[tuple[object, ...], list[TrainingRun]] = {}
    for run in runs:
        key = tuple(_without_seed(run)) or (run.name,)
        found.setdefault(key, []).append(run)
    return {
        of[0].name if len(of) == 1 else f"{of[0].name} and {len(of) - 1} more": of
        for of in found.values()
    }


def _without_seed(run: TrainingRun) -> Iterator[tuple[str, str]]:
    name = run.config.get("name")
    for key, text in settings_of(run).items():
        # Another world is other data, not another draw of the same.
        is_seed = key.rpartition(".")[2] in ("seed", "seed_everything")
        is_own = key == "run_dir" or text == name
        if not is_own and (not is_seed or key.endswith("world.seed")):
            yield key, text


def _in_order(section: str, names: Sequence[str]) -> list[str]:
    first = [name for name in _FIRST.get(section, ()) if name in names]
    return [*first, *(name for name in names if name not in first)]


def _chart(name: str, groups: Mapping[str, Sequence[TrainingRun]]) -> Chart:
    """Every run or cell keeps its colour, whether it has the metric or not."""
    drawn = [
        _curve(label, [run.curves[name] for run in among if name in run.curves])
        for label, among in groups.items()
    ]
    return replace(lines(name, "optimizer step", drawn), names=())


def _curve(name: str, among: Sequence[Series]) -> Curve:
    """The mean of some runs over their shared steps, thinned."""
    by_run = [dict(zip(series.steps, series.values, strict=True)) for series in among]
    steps = sorted(set.intersection(*map(set, by_run))) if by_run else []
    size = max(1, -(-len(steps) // NUM_POINTS))
    x, y, low, high = [], [], [], []
    for start in range(0, len(steps), size):
        bin_ = steps[start : start + size]
        values = [v for found in by_run for step in bin_ if (v := found[step]) is not None]
        x.append(sum(bin_) / len(bin_))
        y.append(sum(values) / len(values) if values else None)
        low.append(min(values, default=None))
        high.append(max(values, default=None))
    is_exact = size == 1 and len(by_run) < 2
    return Curve(name, x, y) if is_exact else Curve(name, x, y, low, high)
