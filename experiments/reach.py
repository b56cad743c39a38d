"""What a student can do of the embedded world: task by level, with intervals and chance.

python -m experiments.reach --split test --json experiments/reach.json

A score is that of the greedy answer, in [0, 1]; open-ended answers are graded by the facts that
they state. Chance is what the true answer to another question of the same task and level scores:
who knows how answers are distributed and has not seen the video. Intervals are 95 %, over videos. A
world can tell methods apart where a student stands between 0.3 and 0.8: it has something to explore
from, and something to gain.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.bootstrap import error_over_videos
from experiments.students import STAGE1, Graded, Student
from lit_vdistill.rewards import graded_quality
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample
from lit_vdistill.world.scenes import LEVELS

LOW, HIGH = 0.3, 0.8
Cell = dict[str, float]


def chance(samples: Sequence[VideoSample]) -> float:
    """Mean score of the true answers to the next four questions, of one task and level."""
    scores = [
        graded_quality(f"<think>?</think><answer>{other.task.true_answer(other)}</answer>", sample)
        for i, sample in enumerate(samples)
        for other in [samples[(i + step) % len(samples)] for step in range(1, 5)]
    ]
    return statistics.mean(scores)


def report(graded: Sequence[Graded]) -> dict[str, dict[str, Cell]]:
    """By task and level: greedy score, its standard error, mean of sampled answers, chance."""
    cells: dict[tuple[str, str], list[Graded]] = defaultdict(list)
    for item in graded:
        cells[str(item.sample.task), str(item.sample.meta["level"])].append(item)
    found: dict[str, dict[str, Cell]] = {str(task): {} for task in Task}
    for (task, level), members in cells.items():
        found[task][level] = {
            "score": _mean(members),
            "error": error_over_videos(members, _mean),
            "sampled": statistics.mean(item.mean for item in members),
            "chance": chance([item.sample for item in members]),
            "questions": len(members),
        }
    return {task: row for task, row in found.items() if row}


def outside(found: Mapping[str, Mapping[str, Cell]]) -> dict[str, list[str]]:
    """By task the levels on which a student is not between 0.3 and 0.8."""
    return {
        task: [level for level, cell in row.items() if not LOW <= cell["score"] <= HIGH]
        for task, row in found.items()
    }


def table(found: Mapping[str, Mapping[str, Cell]]) -> str:
    """The report in Markdown: score ± half of its interval, (sampled answers, chance)."""
    levels = [level.name for level in LEVELS]
    lines = [
        "| task | " + " | ".join(levels) + " | outside |",
        "|---|" + "---|" * (len(levels) + 1),
    ]
    for task, row in found.items():
        cells = [_cell(row[level]) if level in row else "" for level in levels]
        lines.append(f"| {task} | " + " | ".join(cells) + f" | {', '.join(outside(found)[task])} |")
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    half = 1.96 * cell["error"]
    return f"{cell['score']:.2f} ± {half:.2f} ({cell['sampled']:.2f}, {cell['chance']:.2f})"


def _mean(items: Sequence[Graded]) -> float:
    return statistics.mean(item.greedy for item in items)


def main() -> None:
    """Ask, grade and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default=STAGE1)
    parser.add_argument("--world", default="runs/world")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--rollouts", type=int, default=8, help="sampled answers to each question")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    student = Student.load(args.student, args.world, args.split)
    found = report(list(student.graded(args.rollouts, args.seed)))
    sys.stdout.write("\n" + table(found) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
