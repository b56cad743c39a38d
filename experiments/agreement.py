"""Is an open-ended response of a pool better where the others agree with it?

python -m experiments.agreement --json experiments/agreement.json

R-MSD matches open-ended responses uniformly, as no metric is reliable, and leaves an estimator of
their quality to future work. The embedded world knows which facts a right answer states: here the
mean worth of what is drawn from pools of four, by who draws. Differences are to uniform drawing,
with a standard error over videos.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.answers import Answered
from experiments.bootstrap import error_over_videos
from lit_vdistill.pool.agreement import agreements, answers_of
from lit_vdistill.pool.matching import MatchingConfig, matching_distribution
from lit_vdistill.pool.quality import lexical_quality
from lit_vdistill.rewards import graded_quality
from lit_vdistill.rewards.verifier import rouge_f1
from lit_vdistill.types import TeacherResponse, VideoSample
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.questions import questions
from lit_vdistill.world.scenes import scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher

POOL = 4
Pool = Sequence[TeacherResponse]


def by_agreement(sample: VideoSample, pool: Pool) -> list[float]:
    """Overlap with the other answers."""
    return agreements(answers_of(sample, pool), rouge_f1)


def by_truth(sample: VideoSample, pool: Pool) -> list[float]:
    """Overlap with the annotated answer."""
    return [lexical_quality(response.text, sample) for response in pool]


def by_facts(sample: VideoSample, pool: Pool) -> list[float]:
    """What it is worth: as good as an estimator can be."""
    return [graded_quality(response.text, sample) for response in pool]


ESTIMATORS: dict[str, Callable[[VideoSample, Pool], list[float]]] = {
    "agreement": by_agreement, "lexical": by_truth, "facts": by_facts,
}  # fmt: skip


def drawn(worth: Sequence[float], qualities: Sequence[float], threshold: float) -> float:
    """Expected worth of what Eq. 4 draws; nothing passing, as uniform."""
    config = MatchingConfig(threshold=threshold, empty_pool="uniform")
    probabilities = matching_distribution(qualities, True, config)
    assert probabilities is not None
    return sum(p * w for p, w in zip(probabilities, worth, strict=True))


def measure(videos: int) -> dict[str, dict[str, float]]:
    """By estimator: worth of a draw, of the best by it, and what both gain over uniform."""
    config = WorldConfig(train_videos=videos)
    teacher, gained = SimulatedTeacher(config), {name: [] for name in ESTIMATORS}
    uniform = []
    for scene in scenes("train", config):
        for sample in questions(scene, config):
            if sample.task.is_closed_ended:
                continue
            pool = teacher.respond(sample, scene, POOL)
            worth = by_facts(sample, pool)
            uniform.append(statistics.mean(worth))
            for name, estimate in ESTIMATORS.items():
                qualities = estimate(sample, pool)
                best = worth[max(range(POOL), key=qualities.__getitem__)]
                gained[name].append(
                    Answered(
                        sample.id, str(sample.task), "", str(sample.media),
                        greedy=best - uniform[-1],
                        mean=drawn(worth, qualities, 0.0) - uniform[-1],
                        reward=drawn(worth, qualities, 0.3) - uniform[-1],
                    )
                )  # fmt: skip
    found = {"uniform": {"worth": statistics.mean(uniform), "questions": float(len(uniform))}}
    keys = {"mean": "weighted", "reward": "weighted_above_0.3", "greedy": "best"}
    for name, rows in gained.items():
        found[name] = {}
        for key, told in keys.items():

            def mean(among: Sequence[Answered], key: str = key) -> float:
                return statistics.mean(getattr(item, key) for item in among)

            found[name][told], found[name][f"{told}_error"] = (
                mean(rows),
                error_over_videos(rows, mean),
            )
    return found


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=600)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    found = measure(args.videos)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
