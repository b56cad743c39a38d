"""Training curves of several students, averaged over the seeds of `experiments.seeds`.

python -m experiments.curves --folder runs/visd_seeds --students visd grpo --png curves.png
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

CURVES = {
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
    "credit/weight_better": "Mean weight where A > 0",
    "credit/weight_worse": "Mean weight where A < 0",
}
"""What VISD's Figures 3-6 show, and what the teacher decides; by logged name."""


def read_curve(path: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one logged name; empty where a run does not log it."""
    with path.open() as file:
        found = [(row["step"], row[name]) for row in csv.DictReader(file) if row.get(name)]
    pairs = np.array(found, dtype=float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of each value and those before it, up to `window` of them."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(folder: Path, students: Sequence[str], window: int, png: Path) -> None:
    """A panel a curve: each student's mean over its seeds, and their range.

    Args:
        folder: What `experiments.seeds` wrote: `seed<N>/<student>/csv/metrics.csv`.
        students: Which of its runs.
        window: Steps that a point averages.
        png: File to write.

    Raises:
        FileNotFoundError: When a student has no run in the folder.
    """
    figure, axes = pyplot.subplots(3, 4, figsize=(15, 9), layout="constrained", sharex=True)
    for student in students:
        paths = sorted(folder.glob(f"seed*/{student}/csv/metrics.csv"))
        if not paths:
            raise FileNotFoundError(f"{folder}: no seed*/{student}/csv/metrics.csv in it")
        for axis, (name, title) in zip(axes.flat, CURVES.items(), strict=True):
            runs = [read_curve(path, name) for path in paths]
            axis.set_title(title)
            if any(not len(steps) for steps, _ in runs):
                continue
            values = np.stack([smoothed(values, window) for _, values in runs])
            (line,) = axis.plot(runs[0][0], values.mean(axis=0), label=student)
            low, high = values.min(axis=0), values.max(axis=0)
            axis.fill_between(runs[0][0], low, high, color=line.get_color(), alpha=0.15, lw=0)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    axes[0, 0].legend(frameon=False)
    count = len(sorted(folder.glob(f"seed*/{students[0]}")))
    figure.suptitle(f"Mean and range over {count} seeds, each point the last {window} steps")
    figure.savefig(png, dpi=110)


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/visd_seeds"))
    parser.add_argument("--students", nargs="+", required=True)
    parser.add_argument("--window", type=int, default=10, help="steps that a point averages")
    parser.add_argument("--png", type=Path, required=True)
    args = parser.parse_args()
    draw(args.folder, args.students, args.window, args.png)
    sys.stdout.write(f"{args.png}\n")


if __name__ == "__main__":
    main()
