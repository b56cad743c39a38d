"""Training curves of several students, averaged over the seeds of `experiments.seeds`.

python -m experiments.curves --folder runs/visd_seeds --students visd grpo --png curves.png

What none of the runs has logged has no panel.
"""

import argparse
import csv
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

CURVES = {
    "val/reward": "Held-out reward",
    "reward/total": "Total reward",
    "reward/answer": "Answer",
    "reward/answer_time": "Answer: temporal IoU",
    "reward/answer_box": "Answer: spatial IoU",
    "reward/think_segment": "Reasoning: times in the segment",
    "reward/think_point": "Reasoning: nearness to key frames",
    "reward/think_space": "Reasoning: boxes",
    "reward/format": "Format",
    "reward/outer": "Envelope",
    "reward/task": "Format of the task",
    "reward/content": "Content",
    "reward/disc": "Discriminator's reward",
    "disc/accuracy": "Discriminator: accuracy",
    "disc/margin": "Discriminator: margin",
    "match/empty_pool": "Rollouts without a match",
    "kl/ref": "KL from the reference",
    "policy/grad_norm": "Gradient norm",
    "policy/entropy": "Response entropy",
    "credit/lambda": "λ",
    "credit/weight_better": "Mean weight where A > 0",
    "credit/weight_worse": "Mean weight where A < 0",
}
"""What VISD's Figures 3-6 show, what its teacher decides, and R-MSD's own; by logged name."""
_MEAN_AT = re.compile(r"val/mean_at_(\d+)")
_COLUMNS = 5
Curve = tuple[np.ndarray, np.ndarray]
"""Steps and values."""


def read_curve(run: Path, name: str, window: int) -> Curve:
    """Steps and values of one logged name, without what was not measured.

    Args:
        run: Folder of a run.
        name: Training curves are averaged over `window` steps; `val/…` begin with the student that
            the run started from.
        window: How many.
    """
    with (run / "csv" / "metrics.csv").open() as file:
        found = [(row["step"], row[name]) for row in csv.DictReader(file) if row.get(name)]
    pairs = np.array(found, dtype=float).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs[:, 1])]
    if name.startswith("val/"):
        pairs[:, 0] += 1
        start = [[0.0, value] for value in _before(run, name.removeprefix("val/"))]
        pairs = np.array([*start, *pairs]).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
    if len(pairs) < window:
        return pairs[:0, 0], pairs[:0, 1]
    smooth = np.convolve(pairs[:, 1], np.full(window, 1 / window), mode="valid")
    return pairs[window - 1 :, 0], smooth


def _before(run: Path, name: str) -> list[float]:
    """The score of the student that a run began with, if its summary has one."""
    summary = json.loads((run / "summary.json").read_text())
    reports = (part for key, part in summary.items() if key not in ("seconds", "samples"))
    return [part[name] for part in reports if part.get("step") == 0 and name in part]


def logged_names(run: Path) -> list[str]:
    """What has a panel, of all that a run has logged."""
    with (run / "csv" / "metrics.csv").open() as file:
        known = next(csv.reader(file))
    sampled = [name for name in known if _MEAN_AT.fullmatch(name)]
    return [*sampled, *(name for name in CURVES if name in known)]


def title_of(name: str) -> str:
    """What a panel shows."""
    found = _MEAN_AT.fullmatch(name)
    return f"Held-out mean@{found[1]}" if found else CURVES[name]


def draw(folder: Path, students: Sequence[str], window: int, png: Path) -> None:
    """A panel a curve: each student's mean over its seeds, and their range.

    Args:
        folder: What `experiments.seeds` wrote: `seed<N>/<student>`.
        students: Which of its runs.
        window: Steps that a point of a training curve averages.
        png: File to write.

    Raises:
        FileNotFoundError: When a student has no run in the folder.
        ValueError: When there is nothing to draw.
    """
    runs = {student: sorted(folder.glob(f"seed*/{student}")) for student in students}
    for student, paths in runs.items():
        if not paths:
            raise FileNotFoundError(f"{folder}: no seed*/{student} in it")
    panels: dict[str, dict[str, list[Curve]]] = {}
    for student, paths in runs.items():
        for name in dict.fromkeys(name for path in paths for name in logged_names(path)):
            curves = [read_curve(path, name, window) for path in paths]
            if all(len(steps) for steps, _ in curves):
                panels.setdefault(name, {})[student] = curves
    if not panels:
        raise ValueError(f"{folder}: none of its runs has logged {window} steps (--window)")
    rows = math.ceil(len(panels) / _COLUMNS)
    shape, size = (rows, min(len(panels), _COLUMNS)), (17, 0.6 + 2.8 * rows)
    figure, axes = pyplot.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
    for axis, (name, by_student) in zip(axes.flat, panels.items(), strict=False):
        axis.set_title(title_of(name))
        axis.set_xlabel("step")
        for student, curves in by_student.items():
            _draw_curve(axis, curves, f"C{students.index(student)}", student)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    # A student may have no curve in the first panel.
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(handles=list(lines.values()), loc="outside right upper", frameon=False)
    count = max(map(len, runs.values()))
    figure.suptitle(f"Mean and range over {count} seeds; in training each point is {window} steps")
    figure.savefig(png, dpi=110)


def _draw_curve(axis: Axes, curves: Sequence[Curve], colour: str, label: str) -> None:
    """As far as all of them go."""
    steps = min((steps for steps, _ in curves), key=len)
    values = np.stack([values[: len(steps)] for _, values in curves])
    axis.plot(steps, values.mean(axis=0), color=colour, label=label)
    low, high = values.min(axis=0), values.max(axis=0)
    axis.fill_between(steps, low, high, color=colour, alpha=0.12, lw=0)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/visd_seeds"))
    parser.add_argument("--students", nargs="+", required=True)
    parser.add_argument(
        "--window", type=int, default=10, help="steps that a training point averages"
    )
    parser.add_argument("--png", type=Path, required=True)
    args = parser.parse_args()
    draw(args.folder, args.students, args.window, args.png)
    sys.stdout.write(f"{args.png}\n")


if __name__ == "__main__":
    main()
