"""Training curves of several students, averaged over the seeds of `experiments.seeds`.

python -m experiments.curves --folder runs/visd_seeds --students visd grpo --png curves.png
"""

import argparse
import csv
import json
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
    "val/mean_at_8": "Held-out mean@8",
    "reward/total": "Total reward",
    "reward/answer": "Answer",
    "reward/answer_time": "Answer: temporal IoU",
    "reward/answer_box": "Answer: spatial IoU",
    "reward/think_segment": "Reasoning: times in the segment",
    "reward/think_point": "Reasoning: nearness to key frames",
    "reward/think_space": "Reasoning: boxes",
    "reward/format": "Format",
    "policy/grad_norm": "Gradient norm",
    "policy/entropy": "Response entropy",
    "credit/lambda": "λ",
    "credit/weight_better": "Mean weight where A > 0",
    "credit/weight_worse": "Mean weight where A < 0",
}
"""What VISD's Figures 3-6 show, and what the teacher decides; by logged name."""


def read_curve(run: Path, name: str, window: int) -> tuple[np.ndarray, np.ndarray]:
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
        _, before, *_ = json.loads((run / "summary.json").read_text()).values()
        return np.insert(pairs[:, 0] + 1, 0, 0.0), np.insert(
            pairs[:, 1], 0, before[name.removeprefix("val/")]
        )
    if len(pairs) < window:
        return pairs[:0, 0], pairs[:0, 1]
    smooth = np.convolve(pairs[:, 1], np.full(window, 1 / window), mode="valid")
    return pairs[window - 1 :, 0], smooth


def draw(folder: Path, students: Sequence[str], window: int, png: Path) -> None:
    """A panel a curve: each student's mean over its seeds, and their range.

    Args:
        folder: What `experiments.seeds` wrote: `seed<N>/<student>`.
        students: Which of its runs.
        window: Steps that a point of a training curve averages.
        png: File to write.

    Raises:
        FileNotFoundError: When a student has no run in the folder.
    """
    figure, axes = pyplot.subplots(3, 5, figsize=(17, 9), layout="constrained", sharex=True)
    count = 0
    for number, student in enumerate(students):
        paths = sorted(folder.glob(f"seed*/{student}"))
        count = len(paths)
        if not paths:
            raise FileNotFoundError(f"{folder}: no seed*/{student} in it")
        for axis, (name, title) in zip(axes.flat, CURVES.items(), strict=True):
            axis.set_title(title)
            runs = [read_curve(path, name, window) for path in paths]
            if all(len(steps) for steps, _ in runs):
                _draw_curve(axis, runs, f"C{number}", student)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    axes[0, 0].legend(frameon=False)
    figure.suptitle(f"Mean and range over {count} seeds; in training each point is {window} steps")
    figure.savefig(png, dpi=110)


def _draw_curve(
    axis: Axes, runs: Sequence[tuple[np.ndarray, np.ndarray]], colour: str, label: str
) -> None:
    steps = runs[0][0]
    values = np.stack([values for _, values in runs])
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
