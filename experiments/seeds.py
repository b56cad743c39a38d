"""Both stages over several seeds, and the spread of what they gain.

python -m experiments.seeds --config configs/rmsd.yaml --seeds 0 1 2 --folder runs/seeds

Each seed has a stage-1 student of its own. Results go to `<folder>/results.json`; the table
is printed. What is committed beside this file was made so.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

COLUMNS = ("score", "mean_at_8", "reward")


def run_seed(config: str, seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """Fit stage 1 (configs/sft.yaml, where missing) and `config` with one seed.

    Returns:
        The reports of the untrained student, stage 1 and the last stage, by name.
    """
    home = folder / f"seed{seed}"
    student = home / "sft" / "student"
    command = [sys.executable, "-m", "lit_vdistill", "fit", "--config", config]
    command += ["--seed_everything", str(seed), "--run_dir", str(home / Path(config).stem)]
    subprocess.run([*command, "--model.policy.path", str(student)], check=True)
    reports: dict[str, dict[str, float]] = {}
    for path in (home / "sft" / "summary.json", home / Path(config).stem / "summary.json"):
        summary = json.loads(path.read_text())
        seconds = summary.pop("seconds")
        reports |= {name: report | {"seconds": seconds} for name, report in summary.items()}
    return reports


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: mean and sample standard deviation over seeds, a row a student."""
    lines = ["| student | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    students = next(iter(results.values()))
    for student in students:
        cells = []
        for column in COLUMNS:
            values = [reports[student][column] for reports in results.values()]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        lines.append(f"| {student} | " + " | ".join(cells) + " |")
    before, after = list(students)[-2:]
    cells = []
    for column in COLUMNS:
        gains = [reports[after][column] - reports[before][column] for reports in results.values()]
        cells.append(" ".join(f"{gain:+.3f}" for gain in gains))
    lines.append(f"| {before} to {after}, by seed | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all seeds and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/rmsd.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds"))
    args = parser.parse_args()
    results = {str(seed): run_seed(args.config, seed, args.folder) for seed in args.seeds}
    (args.folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(table(results) + "\n")


if __name__ == "__main__":
    main()
