"""A recipe and its variants over several seeds, and the spread of what they gain.

python -m experiments.seeds --config configs/rmsd.yaml --seeds 0 1 2 --folder runs/seeds
python -m experiments.seeds --config configs/visd.yaml --folder runs/visd_seeds \
    --before configs/sft.yaml configs/sft_privileged.yaml \
    --variant "grpo --model.credit.mix 0"

Each seed has students of its own from the first stage on, and the variants of a seed start from the
same one. Runs lie in `<folder>/seed<N>/<stage or variant>`; one with a summary is not repeated.
Results go to `<folder>/results.json`; the table is printed. What is committed beside this file was
made so.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("score", "mean_at_8", "reward")
Reports = dict[str, dict[str, float]]
"""Held-out results by student."""


def fit(
    config: str, home: Path, seed: int, start: Path | None, overrides: Sequence[str]
) -> Reports:
    """One run, if it is not there yet.

    Args:
        config: The recipe.
        home: Its run folder.
        seed: Of weights, order and draws.
        start: The student to start from; None = what the recipe names.
        overrides: More of the command line.

    Returns:
        The reports before and after it, the latter with the run's seconds.
    """
    summary = home / "summary.json"
    if not summary.is_file():
        command = [sys.executable, "-m", "lit_vdistill", "fit", "--config", config]
        command += ["--seed_everything", str(seed), "--run_dir", str(home), *overrides]
        command += ["--model.policy.path", str(start)] if start else []
        subprocess.run(command, check=True)
    reports = json.loads(summary.read_text())
    seconds = reports.pop("seconds")
    *_, after = reports
    reports[after]["seconds"] = seconds
    return reports


def run_seed(
    before: Sequence[str], config: str, variants: dict[str, list[str]], seed: int, folder: Path
) -> Reports:
    """All stages of one seed, then the recipe and its variants from the same student."""
    home, start = folder / f"seed{seed}", None
    reports: Reports = {}
    for stage in before:
        found = fit(stage, home / Path(stage).stem, seed, start, [])
        reports |= {name: reports.get(name, {}) | report for name, report in found.items()}
        start = home / Path(stage).stem / "student"
    for name, overrides in variants.items():
        found = fit(config, home / name, seed, start, ["--name", name, *overrides])
        reports[name] = found[name]
    return reports


def table(results: dict[str, Reports], variants: Sequence[str]) -> str:
    """Markdown: mean and sample standard deviation over seeds, a row a student, then the gains."""
    lines = ["| student | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    students = list(next(iter(results.values())))
    before = [student for student in students if student not in variants][-1]

    def row(label: str, cells: Sequence[str]) -> None:
        lines.append(f"| {label} | " + " | ".join(cells) + " |")

    for student in students:
        cells = []
        for column in COLUMNS:
            values = [reports[student][column] for reports in results.values()]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        row(student, cells)
    for name in variants:
        gains = [
            " ".join(f"{r[name][column] - r[before][column]:+.3f}" for r in results.values())
            for column in COLUMNS
        ]
        row(f"{before} to {name}, by seed", gains)
    return "\n".join(lines)


def main() -> None:
    """Run all seeds and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/rmsd.yaml")
    parser.add_argument("--before", nargs="+", default=["configs/sft.yaml"], help="stages below it")
    parser.add_argument(
        "--variant", action="append", default=[], help='name and overrides, "grpo --some.key 0"'
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds"))
    args = parser.parse_args()
    variants = {Path(args.config).stem: []} | {
        name: overrides for name, *overrides in map(str.split, args.variant)
    }
    results = {
        str(seed): run_seed(args.before, args.config, variants, seed, args.folder)
        for seed in args.seeds
    }
    (args.folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(table(results, list(variants)) + "\n")


if __name__ == "__main__":
    main()
