"""Command-line tools about evaluations; none of them imports torch."""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lit_vdistill.evaluation.benchmark import Benchmark
from lit_vdistill.evaluation.comparison import compared, markdown
from lit_vdistill.evaluation.scoring import score_run
from lit_vdistill.evaluation.settings import read_settings

_SHOWN = 10


def score(run: str, benchmark: Benchmark | None = None, blind_run: str | None = None) -> None:
    """Score the answers of a run again, without asking anything again.

    Args:
        run: Folder of `evaluate run`.
        benchmark: Scores otherwise than the run's own does, e.g. by a rater or official quirks.
        blind_run: Folder of a blind run, whose scores stand beside.
    """
    folder = Path(run)
    try:
        made = benchmark or benchmark_of(read_settings(folder))
        found = score_run(folder, made, None if blind_run is None else Path(blind_run))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print_scores(found, folder)


def compare(runs: list[str], score: str | None = None, folder: str | None = None) -> None:
    """Compare two students item by item, on the same items of the same benchmark.

    Args:
        runs: Folders of two scored runs, the one that others are held to first.
        score: By what; the benchmark's headline when left out.
        folder: Where `compare.md` and `compare.json` go; the second run's when left out.
    """
    if len(runs) != 2:
        raise SystemExit(f"error: runs: expected two folders, got {len(runs)}")
    first, second = map(Path, runs)
    try:
        found = compared(first, second, score)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    text = markdown(found)
    out = second if folder is None else Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.md").write_text(text, encoding="utf-8")
    plain = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
    (out / "compare.json").write_text(plain + "\n", encoding="utf-8")
    sys.stdout.write(f"{text}\nwritten to {out / 'compare.md'} and compare.json\n")


def check(benchmark: Benchmark, data_root: str) -> None:
    """Say which files of a benchmark are missing, how large they are, and who describes them.

    Exits with 1 when something is missing.

    Args:
        benchmark: Which.
        data_root: Folder of its files.
    """
    root = Path(data_root)
    gone = [needed for needed in benchmark.needed if not (root / needed.path).exists()]
    for needed in benchmark.needed:
        state = "missing" if needed in gone else "there"
        sys.stdout.write(
            f"{state}: {root / needed.path}: {needed.what}\n    {needed.described_at}\n"
        )
    if not gone:
        try:
            samples, bad = benchmark.read(root)
        except (OSError, ValueError) as error:
            raise SystemExit(f"error: {error}") from error
        gone = _check_media(benchmark, root, samples, bad)
    if gone:
        raise SystemExit(1)
    sys.stdout.write(f"{benchmark.name}: all of it is there\n")


def _check_media(benchmark: Benchmark, root: Path, samples: Any, bad: Any) -> list[Any]:
    from lit_vdistill.evaluation.files import missing_media

    found = {sample.media for sample in samples if sample.media is not None}
    missing = missing_media(samples, root)
    sys.stdout.write(
        f"{benchmark.name}: {len(samples)} questions about {len(found)} media; {len(missing)} "
        f"media missing, {len(bad)} records unusable\n"
    )
    for one in (*missing[:_SHOWN], *bad[:_SHOWN]):
        sys.stdout.write(f"    {one}\n")
    return [*missing, *bad]


def benchmark_of(settings: dict[str, Any]) -> Benchmark:
    """The benchmark of a run's settings.

    Raises:
        ValueError: When its class does not take what they say.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Benchmark, "benchmark")
    try:
        config = parser.parse_object({"benchmark": settings["benchmark"]})
        return parser.instantiate(config).benchmark
    except Exception as error:
        raise ValueError(f"benchmark {settings['benchmark']!r:.200}: {error}") from error


def print_scores(found: dict[str, Any], folder: Path) -> None:
    """Print the scores of a run, with intervals, and how many answers could not be read."""
    title = f"{found['student']} on {found['benchmark']}: {found['questions']} questions"
    table = Table(title=f"{title} about {found['videos']} videos", caption_justify="left")
    blind = (found["blind"] or {"scores": {}})["scores"]
    for name in ("score", "value", "95 % interval", "items", *(["blind"] if blind else [])):
        table.add_column(name, justify="left" if name == "score" else "right")
    for name, one in found["scores"].items():
        bounds = "none" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
        cells = [name, f"{one['value']:.3f}", bounds, str(one["items"])]
        if blind:
            cells.append(f"{blind[name]['value']:.3f}" if name in blind else "")
        table.add_row(*cells, end_section=name == found["headline"])
    console = Console()
    console.print(table)
    for reason, count in found["problems"].items():
        console.print(f"{count} × {reason}; it stays in the denominator", markup=False)
    if found["pass_at_k"] is not None:
        curve = found["pass_at_k"]
        shown = [i for i, k in enumerate(curve["k"]) if k & (k - 1) == 0]
        told = ", ".join(f"pass@{curve['k'][i]} {curve['value'][i]:.3f}" for i in shown)
        console.print(told, markup=False)
    console.print(f"written to {folder}", markup=False)
