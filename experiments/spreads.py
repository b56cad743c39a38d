"""How good the simulated teacher is, task by task, beside what R-MSD §4.4 reports of a real one.

python -m experiments.spreads --json experiments/spreads.json

Eight responses a question to 1 200 scenes; no network takes part. Quality is q of R-MSD Eq. 2, with
open-ended answers graded by the facts that they state. `across` is the standard deviation over
questions of their mean quality, `within` the mean over questions of the standard deviation of their
samples, `lowest` and `highest` the means of each question's worst and best sample.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from lit_vdistill.pool.report import spread_table
from lit_vdistill.pool.text_units import in_text_units
from lit_vdistill.pool.variance import Figures, Question, by_task, spread, worth_of
from lit_vdistill.types import Medium
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.questions import questions
from lit_vdistill.world.scenes import FRAME_PX, scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher


def measure(config: WorldConfig) -> dict[str, Figures]:
    """The figures of a teacher by task, of all tasks, and of both temporal ones."""
    teacher, count = SimulatedTeacher(config), config.teacher.pool_size
    frame = Medium("video", np.zeros((1, FRAME_PX, FRAME_PX, 3), np.uint8), (0.0,))
    asked = []
    for scene in scenes("train", config):
        for question in questions(scene, config):
            sample = in_text_units(question, frame, "pixels")
            pool = teacher.respond(sample, scene, count)
            asked.append(Question(sample, tuple(worth_of(sample, r) for r in pool)))
    return {task: spread(members) for task, members in by_task(asked).items()}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1200)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    found = measure(WorldConfig(train_videos=args.scenes))
    sys.stdout.write("\n".join(spread_table(found)) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
