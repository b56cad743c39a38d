"""How good the simulated teacher is, task by task, beside what R-MSD §4.4 reports of a real one.

python -m experiments.spreads --json experiments/spreads.json

Eight responses a question to 1 200 scenes; no network takes part. Quality is q of R-MSD Eq. 2, with
open-ended answers graded by the facts that they state. `across` is the standard deviation over
questions of their mean quality, `within` the mean over questions of the standard deviation of their
samples, `lowest` and `highest` the means of each question's worst and best sample.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lit_vdistill.pool.text_units import in_text_units
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import graded_quality
from lit_vdistill.types import Medium
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.questions import questions
from lit_vdistill.world.scenes import FRAME_PX, scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher

REPORTED: dict[str, dict[str, float]] = {
    "all": {"mean": 0.75, "across": 0.22, "malformed": 0.01},
    "mcq": {"mean": 0.96, "across": 0.10, "within": 0.07},
    "spatial_grounding": {"mean": 0.64, "across": 0.24, "within": 0.15},
    "ocr": {"lowest": 0.50, "highest": 0.85},
    "numerical": {"lowest": 0.65, "highest": 1.00},
    "temporal": {"malformed": 0.10},
}
"""R-MSD §4.4, figure by figure. Its visual QA stands beside our boxes, its temporal QA beside both
temporal tasks; more of our tasks are temporal, so that more responses of all are malformed."""
COLUMNS = ("mean", "across", "within", "lowest", "highest", "malformed")


def measure(config: WorldConfig) -> dict[str, dict[str, float]]:
    """The figures of a teacher by task, of all tasks, and of both temporal ones."""
    teacher, count = SimulatedTeacher(config), config.teacher.pool_size
    frame = Medium("video", np.zeros((1, FRAME_PX, FRAME_PX, 3), np.uint8), (0.0,))
    pools: dict[str, list[list[tuple[float, bool]]]] = defaultdict(list)
    for scene in scenes("train", config):
        for asked in questions(scene, config):
            sample = in_text_units(asked, frame, "pixels")
            texts = [response.text for response in teacher.respond(sample, scene, count)]
            pool = [
                (graded_quality(t, sample), parse_response(t).problem is not None) for t in texts
            ]
            is_temporal = sample.task.answers_span
            for name in ("all", str(sample.task), *(["temporal"] if is_temporal else [])):
                pools[name].append(pool)
    return {name: _figures(members) for name, members in pools.items()}


def _figures(pools: list[list[tuple[float, bool]]]) -> dict[str, float]:
    qualities = [[quality for quality, _ in pool] for pool in pools]
    means = [statistics.mean(found) for found in qualities]
    return {
        "mean": statistics.mean(means),
        "across": statistics.pstdev(means),
        "within": statistics.mean(statistics.pstdev(found) for found in qualities),
        "lowest": statistics.mean(min(found) for found in qualities),
        "highest": statistics.mean(max(found) for found in qualities),
        "malformed": statistics.mean(is_bad for pool in pools for _, is_bad in pool),
    }


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """The figures in Markdown, with the paper's in brackets."""
    lines = ["| task | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, row in found.items():
        known = REPORTED.get(name, {})
        cells = [
            f"{row[column]:.2f}" + (f" ({known[column]:.2f})" if column in known else "")
            for column in COLUMNS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1200)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    found = measure(WorldConfig(train_videos=args.scenes))
    sys.stdout.write(table(found) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
