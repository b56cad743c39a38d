"""Students' graded answers to a split, kept in files, and what one is worth more than another.

A student answers each question greedily and eight times at temperature 1; open-ended answers are
graded by the facts that they state. Errors are standard errors over videos. What is on disk is not
asked again.
"""

import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from experiments.bootstrap import error_over_videos
from experiments.students import Student
from lit_vdistill import jsonl
from lit_vdistill.world.scenes import Split

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
    best: float = float("nan")


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


def answers_of(student: str, world: str, split: Split, folder: Path) -> list[Answered]:
    """A student's graded answers to a split, kept in a folder as a file of JSON lines."""
    record = folder / f"graded_{split}.jsonl"
    if not record.is_file():
        asked = Student.load(student, world, split)
        found = []
        for graded in asked.graded(ROLLOUTS, seed=0):
            sample, worth = graded.sample, (graded.greedy, graded.mean, graded.reward, graded.best)
            level = str(sample.meta["level"])
            found.append(Answered(sample.id, str(sample.task), level, graded.video, *worth))
        jsonl.write(record, map(asdict, found))
    return [Answered(**row) for _, row in jsonl.read(record)]


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
            **{key: getattr(a, key) - getattr(b, key) for key in (*COLUMNS, "best")},
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
