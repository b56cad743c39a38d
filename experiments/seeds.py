"""A recipe and its variants over several seeds, each question paired with the student before.

python -m experiments.seeds --config configs/grpo.yaml --seeds 0 1 2 3 4 --folder runs/grpo_seeds \
    --json experiments/grpo_seeds.json
python -m experiments.seeds --config configs/rmsd.yaml --folder runs/rmsd_seeds \
    --variant "sft_rl --model.disc.reward_weight 0"

All runs start from the student that the recipe names; a seed changes order and draws. Afterwards
that student and all others answer the test split, on which nothing was chosen (or `--split val`):
greedily, and eight times at temperature 1. What is averaged over seeds is compared question by
question; errors are standard errors over videos. Runs lie in `<folder>/seed<N>/<variant>`; one with
a summary is not repeated, nor are answers that were graded.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from experiments.bootstrap import error_over_videos
from experiments.students import Student
from lit_vdistill import jsonl

ROLLOUTS = 8
"""Sampled answers to each question, whatever the recipe draws for its own validation."""
COLUMNS = {"greedy": "greedy score", "mean": f"mean@{ROLLOUTS}", "reward": "reward"}
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a student's answers to one question are worth; see `students.Graded`."""

    id: str
    task: str
    level: str
    video: str
    greedy: float
    mean: float
    reward: float


def fit(config: str, home: Path, seed: int, overrides: Sequence[str]) -> None:
    """One run, if it is not there yet.

    Args:
        config: The recipe.
        home: Its run folder.
        seed: Of order and draws.
        overrides: More of the command line.
    """
    if not (home / "summary.json").is_file():
        command = [sys.executable, "-m", "lit_vdistill", "fit", "--config", config]
        command += ["--seed_everything", str(seed), "--run_dir", str(home), "--overwrite"]
        command += overrides
        subprocess.run(command, check=True)


def start_of(home: Path) -> str:
    """The student that a run began with."""
    merged = yaml.safe_load((home / "config.yaml").read_text())
    return merged["model"]["init_args"]["policy"]["path"]


def answers_of(student: str, world: str, split: str, folder: Path) -> list[Answered]:
    """A student's graded answers to a split, kept in a folder as a file of JSON lines."""
    record = folder / f"graded_{split}.jsonl"
    if not record.is_file():
        asked = Student.load(student, world, split)
        found = []
        for graded in asked.graded(ROLLOUTS, seed=0):
            sample, worth = graded.sample, (graded.greedy, graded.mean, graded.reward)
            level = str(sample.meta["level"])
            found.append(Answered(sample.id, str(sample.task), level, graded.video, *worth))
        jsonl.write(record, map(asdict, found))
    return [Answered(**row) for _, row in jsonl.read(record)]


def average(students: Sequence[Sequence[Answered]]) -> list[Answered]:
    """The mean worth of several students' answers, question by question."""
    return [
        Answered(
            *(same[0].id, same[0].task, same[0].level, same[0].video),
            **{key: statistics.mean(getattr(item, key) for item in same) for key in COLUMNS},
        )
        for same in zip(*students, strict=True)
    ]


def difference(after: Sequence[Answered], before: Sequence[Answered]) -> list[Answered]:
    """What one student's answers are worth more than another's, question by question.

    Raises:
        ValueError: When they answered other questions.
    """
    if [item.id for item in after] != [item.id for item in before]:
        raise ValueError("the two students answered other questions; remove the graded answers")
    return [
        Answered(
            *(a.id, a.task, a.level, a.video),
            **{key: getattr(a, key) - getattr(b, key) for key in COLUMNS},
        )
        for a, b in zip(after, before, strict=True)
    ]


def figures(items: Sequence[Answered]) -> Figures:
    """Mean and standard error over videos of each column, in all and the mean by task."""
    found = {}
    for key in COLUMNS:

        def mean(among: Sequence[Answered], key: str = key) -> float:
            return statistics.mean(getattr(item, key) for item in among)

        found[key], found[f"{key}_error"] = mean(items), error_over_videos(items, mean)
        for task in sorted({item.task for item in items}):
            found[f"{key}/{task}"] = mean([item for item in items if item.task == task])
    return found


def report(
    before: Sequence[Answered], after: Mapping[str, Mapping[str, Sequence[Answered]]]
) -> dict[str, Figures]:
    """Every student's figures, and what each is ahead of the others that it is compared with.

    Args:
        before: The student that all runs began with.
        after: By variant and seed; the first variant is the recipe.
    """
    means = {name: average(list(by_seed.values())) for name, by_seed in after.items()}
    found = {"before": figures(before)}
    found |= {name: figures(items) for name, items in means.items()}
    recipe, *variants = means
    for name, by_seed in after.items():
        found[f"{name} - before"] = figures(difference(means[name], before))
        for seed, items in by_seed.items():
            found[f"{name} - before, seed {seed}"] = figures(difference(items, before))
    for name in variants:
        found[f"{recipe} - {name}"] = figures(difference(means[recipe], means[name]))
        for seed in after[recipe]:
            pair = difference(after[recipe][seed], after[name][seed])
            found[f"{recipe} - {name}, seed {seed}"] = figures(pair)
    return found


def table(found: Mapping[str, Figures]) -> str:
    """The report in Markdown, ± one standard error."""
    lines = ["| student | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, row in found.items():
        sign = "+" if " - " in name else ""
        cells = [f"{row[key]:{sign}.3f} ± {row[f'{key}_error']:.3f}" for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all seeds, grade and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/rmsd.yaml")
    parser.add_argument(
        "--variant", action="append", default=[], help='name and overrides, "grpo --some.key 0"'
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--world", default="runs/world")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="what is asked")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    variants = {Path(args.config).stem: []} | {
        name: overrides for name, *overrides in map(str.split, args.variant)
    }
    after: dict[str, dict[str, list[Answered]]] = {name: {} for name in variants}
    start = ""
    for seed in args.seeds:
        for name, overrides in variants.items():
            home = args.folder / f"seed{seed}" / name
            fit(args.config, home, seed, ["--name", name, *overrides])
            student = str(home / "student")
            after[name][str(seed)] = answers_of(student, args.world, args.split, home)
            start = start_of(home)
    before = answers_of(start, args.world, args.split, args.folder)
    found = report(before, after)
    sys.stdout.write("\n" + table(found) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
