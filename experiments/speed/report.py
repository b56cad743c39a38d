"""Table, CSV file and plot of what was measured."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

_TICKS = (256, 512, 1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class GridRow:
    """One prompt length and group size: medians in seconds, peaks in MiB."""

    prompt_tokens: int
    rollouts: int
    train_shared_s: float
    train_dense_s: float
    train_dense_video_once_s: float
    rollout_shared_s: float
    rollout_stock_s: float
    memory_shared_mib: float
    memory_dense_mib: float
    memory_dense_video_once_mib: float


def device_name() -> str:
    """What the figures are from."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def quick_table(ratios: Mapping[str, float]) -> str:
    """The ratios, a line each."""
    lines = [f"{device_name()}; {ratios['prompt_tokens']} prompt tokens; ours is faster by"]
    lines += [f"  {name:34} {value:8.2f}" for name, value in ratios.items() if "tokens" not in name]
    return "\n".join(lines)


def grid_line(row: GridRow) -> str:
    """One line of the table while it grows."""
    return (
        f"P {row.prompt_tokens:5} N {row.rollouts:2}  "
        f"train {row.train_shared_s:6.2f} s, dense {row.train_dense_s:7.2f} s "
        f"({row.train_dense_s / row.train_shared_s:4.1f}x)  "
        f"rollout {row.rollout_shared_s:5.2f} s, stock {row.rollout_stock_s:5.2f} s "
        f"({row.rollout_stock_s / row.rollout_shared_s:4.1f}x)  "
        f"memory {row.memory_shared_mib:6.0f} MiB, dense {row.memory_dense_mib:6.0f} MiB"
    )


def write(folder: Path, ratios: Mapping[str, float], rows: Sequence[GridRow]) -> None:
    """`quick.json`, `grid.csv`, `speed.png` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {"device": device_name(), **ratios}
    (folder / "quick.json").write_text(json.dumps(named, indent=1) + "\n")
    with (folder / "grid.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(GridRow)])
        writer.writeheader()
        writer.writerows(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()}
            for row in rows
        )
    _plot(folder / "speed.png", rows)


def _plot(path: Path, rows: Sequence[GridRow]) -> None:
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    panels = (
        ("Training, forward and backward", "seconds", "train_shared_s", "train_dense_s"),
        ("Rollouts", "seconds", "rollout_shared_s", "rollout_stock_s"),
        ("Peak memory of training", "MiB", "memory_shared_mib", "memory_dense_mib"),
    )
    counts = sorted({row.rollouts for row in rows})
    for axis, (title, unit, ours, other) in zip(axes, panels, strict=True):
        for number, count in enumerate(counts):
            chosen = sorted(
                (row for row in rows if row.rollouts == count), key=lambda row: row.prompt_tokens
            )
            lengths = [row.prompt_tokens for row in chosen]
            for key, style, name in ((ours, "-", "shared"), (other, "--", "a row a completion")):
                axis.plot(
                    lengths, [getattr(row, key) for row in chosen], style, marker="o", markersize=3,
                    color=f"C{number}", label=f"N = {count}, {name}",
                )  # fmt: skip
        axis.set(title=title, xlabel="prompt tokens", ylabel=unit, xscale="log", yscale="log")
        axis.set_xticks(_TICKS, [f"{tick:,}" for tick in _TICKS])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.grid(visible=True, alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(counts), fontsize=8)
    figure.suptitle(f"{device_name()}; completions of 48 tokens; medians of alternating rounds")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
