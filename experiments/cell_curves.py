"""Training curves of a sweep's cells: mean over seeds and range."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from experiments.results import Record

matplotlib.use("Agg")
from matplotlib import pyplot

_COLUMNS = 4


def draw(cells: Mapping[str, Sequence[Record]], png: Path) -> None:
    """A panel for each curve that a cell has logged with all of its seeds.

    Args:
        cells: Results of each cell, of all its seeds.
        png: File to write.

    Raises:
        ValueError: When there is nothing to draw.
    """
    names = sorted({name for runs in cells.values() for run in runs for name in run["curves"]})
    if not names:
        raise ValueError(f"{png}: none of {list(cells)} has a curve")
    names.sort(key=lambda name: name != "reward/total")
    rows = math.ceil(len(names) / _COLUMNS)
    shape, size = (rows, min(len(names), _COLUMNS)), (16, 0.6 + 3 * rows)
    figure, axes = pyplot.subplots(*shape, figsize=size, layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.set_title(name)
        axis.set_xlabel("step")
        for place, (cell, runs) in enumerate(cells.items()):
            curves = [dict(run["curves"][name]) for run in runs if name in run["curves"]]
            steps = sorted(set.intersection(*map(set, curves))) if curves else []
            if steps:
                values = np.array([[curve[step] for step in steps] for curve in curves])
                axis.plot(steps, values.mean(axis=0), color=f"C{place}", label=cell)
                low, high = values.min(axis=0), values.max(axis=0)
                axis.fill_between(steps, low, high, color=f"C{place}", alpha=0.12, lw=0)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    # A cell may have no curve in the first panel.
    lines = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(handles=list(lines.values()), loc="outside right upper", frameon=False)
    count = max(map(len, cells.values()))
    figure.suptitle(f"Mean and range over {count} seeds at the most")
    figure.savefig(png, dpi=90)
    pyplot.close(figure)
