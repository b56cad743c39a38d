"""Table, CSV file and plot of what was measured."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

_TICKS = (256, 512, 1024, 2048, 4096, 8192)
_STEP_UNITS = ("seconds", "tokens_per_s", "peak_mib")


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


def quick_table(figures: Mapping[str, float]) -> str:
    """The figures, a line each: first the ratios, how many times less ours takes."""
    lines = [f"{device_name()}; {figures['prompt_tokens']} prompt tokens"]
    named = sorted(figures.items(), key=lambda pair: pair[0].rpartition("/")[0])
    lines += [f"  {name:40} {value:10.3f}" for name, value in named if name != "prompt_tokens"]
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


def write(folder: Path, figures: Mapping[str, float], rows: Sequence[GridRow]) -> None:
    """`quick.json`, `steps.csv`, `grid.csv`, `speed.png` in a folder."""
    write_figures(folder, "quick.json", figures)
    _write_table(folder / "grid.csv", [asdict(row) for row in rows])
    _write_table(folder / "steps.csv", step_rows(figures))
    _plot(folder / "speed.png", figures, rows)


def write_figures(folder: Path, name: str, figures: Mapping[str, float]) -> None:
    """The figures with the device that they are from."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {"device": device_name(), **figures}
    (folder / name).write_text(json.dumps(named, indent=1) + "\n")


def step_rows(figures: Mapping[str, float]) -> list[dict[str, str | float]]:
    """Whole steps, a row each: those whose tokens were counted."""
    names = [name.partition("/")[2] for name in figures if name.startswith("tokens_per_s/")]
    return [
        {"step": name} | {unit: figures[f"{unit}/{name}"] for unit in _STEP_UNITS} for name in names
    ]


def _write_table(path: Path, rows: Sequence[Mapping[str, str | float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def _plot(path: Path, figures: Mapping[str, float], rows: Sequence[GridRow]) -> None:
    figure, (*axes, last) = pyplot.subplots(1, 4, figsize=(17, 4.6), layout="constrained")
    _plot_windows(last, figures)
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


def _plot_windows(axis: Axes, figures: Mapping[str, float]) -> None:
    """What a step holds, by the size of its window."""
    sizes = sorted(int(name.rpartition("_")[2]) for name in figures if "inputs_mib/" in name)
    for kind, label in (("peak_mib", "made by the step"), ("inputs_mib", "pixels, before it")):
        held = [figures[f"{kind}/window_{size}"] for size in sizes]
        axis.plot(sizes, held, marker="o", markersize=3, label=label)
    axis.set(title="Peak memory of a window step", xlabel="prompts", ylabel="MiB", xscale="log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(bottom=0)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize=8)
