"""How often the intervals of `lit_vdistill/metrics` cover the truth, on simulated benchmarks.

python -m experiments.interval_coverage --json experiments/interval_coverage.json

A benchmark is so many videos with 1 to 10 questions each, drawn anew every time from a population
whose mean over questions is known. Two answers about one video correlate by the intraclass
correlation: each is the video's own with probability √icc, else drawn by itself. The second
student answers half of the videos as the first does. Naive intervals take questions for
independent.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy import ndarray

from lit_vdistill.metrics.intervals import (
    Difference,
    Estimate,
    clustered_function,
    clustered_mean,
    paired_difference,
)
from lit_vdistill.metrics.pass_at_k import SampledQuestion, pass_curve

VIDEOS, CORRELATIONS = (24, 100, 900), (0.0, 0.5)
MOST_QUESTIONS = 10
SAMPLES, K = 8, 4
"""Of pass@k."""
MEASURES = ("score", "naive", "difference", "power", "lgm", "pass_at_k")
"""Columns of the table: coverages (`naive` is the score's for contrast, `lgm` V-STaR's LGM), and
`power`: how often the interval of a true difference of `detectable` would have lain above 0."""
Rows = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Kind:
    """What values are like."""

    a: float
    """Beta distribution of a value: its first parameter for the first student, then the second."""
    b: float
    gain: float
    """What the second student has more of the first parameter."""
    is_binary: bool = False
    hardness: float = 0.0
    """Share of the mean that videos with the most questions lose against those with one."""

    def draw(self, rng: np.random.Generator, ease: ndarray, gain: float = 0.0) -> ndarray:
        """Values, one for each factor on the mean."""
        if self.is_binary:
            return (rng.random(len(ease)) < ease * self.mean(gain)).astype(float)
        return ease * rng.beta(self.a + gain, self.b, len(ease))

    def mean(self, gain: float = 0.0) -> float:
        """Of a value, before hardness."""
        return (self.a + gain) / (self.a + self.b + gain)

    def ease(self, sizes: ndarray) -> ndarray:
        """Factor on the mean by the number of a video's questions."""
        return 1.0 - self.hardness * (sizes - 1) / (MOST_QUESTIONS - 1)

    def truth(self, gain: float = 0.0) -> float:
        """Mean over questions of the population: videos count by their questions."""
        sizes = np.arange(1, MOST_QUESTIONS + 1)
        return self.mean(gain) * float((sizes * self.ease(sizes)).sum() / sizes.sum())


KINDS = {
    "binary": Kind(1.2, 0.8, 0.2, is_binary=True),
    "binary, hard where many": Kind(1.2, 0.8, 0.2, is_binary=True, hardness=0.4),
    "binary, near 1": Kind(1.8, 0.2, 0.05, is_binary=True),
    "tIoU": Kind(0.5, 0.8, 0.2),
}


@dataclass(frozen=True)
class Benchmark:
    """Videos with their questions, drawn from the population."""

    rng: np.random.Generator
    icc: float
    kind: Kind
    sizes: ndarray

    @property
    def clusters(self) -> ndarray:
        """The video of each question."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def answers(self, gain: float = 0.0) -> ndarray:
        """What a student's answers are worth."""
        ease, clusters = self.kind.ease(self.sizes), self.clusters
        shared = self.kind.draw(self.rng, ease, gain)[clusters]
        own = self.kind.draw(self.rng, ease[clusters], gain)
        return np.where(self.rng.random(len(clusters)) < math.sqrt(self.icc), shared, own)

    def others(self, answers: ndarray) -> ndarray:
        """The second student's, which are the first one's on half of the videos."""
        is_copied = self.rng.random(len(self.sizes)) < 0.5
        return np.where(is_copied[self.clusters], answers, self.answers(self.kind.gain))


def covers(estimate: Estimate, truth: float) -> bool | None:
    """Whether the interval has the truth; None = there is no interval."""
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low <= truth <= estimate.high


def lgm(means: Mapping[str, float]) -> float:
    """V-STaR's LGM of three means, a perfect one taken as `metrics/vstar.py` takes it."""
    return -sum(math.log(1.0 - min(mean, 1.0 - 1e-6)) for mean in means.values()) / 3


def judge_intervals(benchmark: Benchmark) -> dict[str, bool | None]:
    """Whether each interval of one benchmark has the truth."""
    kind, clusters = benchmark.kind, benchmark.clusters.tolist()
    first = benchmark.answers()
    second = benchmark.others(first)
    ids = [str(i) for i in range(len(clusters))]
    before, after = (dict(zip(ids, side.tolist(), strict=True)) for side in (first, second))
    difference = paired_difference(after, before, dict(zip(ids, clusters, strict=True)))
    gained = (kind.truth(kind.gain) - kind.truth()) / 2
    places = benchmark.answers().tolist()
    columns = {
        "what": first.tolist(),
        "when": second.tolist(),
        # A third of the questions asks for no place.
        "where": [None if i % 3 == 0 else value for i, value in enumerate(places)],
    }
    truths = {"what": kind.truth(), "when": kind.truth() + gained, "where": kind.truth()}
    values = first.tolist()
    return {
        "score": covers(clustered_mean(values, clusters), kind.truth()),
        "naive": covers(clustered_mean(values, ids), kind.truth()),
        "difference": covers(difference, gained),
        "power": _shows(difference, gained),
        "lgm": covers(clustered_function(columns, clusters, lgm), lgm(truths)),
    }


def _shows(difference: Difference, gained: float) -> bool | None:
    """Whether 0 had been excluded, were the true difference `detectable`."""
    if difference.low is None or difference.detectable is None:
        return None
    return difference.low - gained + difference.detectable > 0.0


def judge_pass_at_k(benchmark: Benchmark, draws: int) -> bool | None:
    """Whether that of pass@k has it; a question's chance to be right is its value."""
    kind, rng = benchmark.kind, benchmark.rng
    right = rng.binomial(SAMPLES, benchmark.answers()).tolist()
    questions = [
        SampledQuestion(SAMPLES, correct, video)
        for correct, video in zip(right, benchmark.clusters.tolist(), strict=True)
    ]
    curve = pass_curve(questions, draws=draws, seed=int(rng.integers(2**31)))
    # E (1 - p)^k of a Beta distribution.
    wrong = math.prod((kind.b + i) / (kind.a + kind.b + i) for i in range(K))
    return covers(curve[K - 1].passed, 1.0 - wrong)


def coverage(said: Sequence[bool | None]) -> float | None:
    """Share of the intervals that have the truth; None where there is no interval."""
    known = [is_covered for is_covered in said if is_covered is not None]
    return sum(known) / len(known) if known else None


def measure(
    datasets: int, draws: int, videos: Sequence[int], progress: Callable[[str], object]
) -> Rows:
    """Shares by case, and on how many benchmarks some interval was refused (`without`)."""
    rows: Rows = {}
    for (name, kind), icc, count in product(KINDS.items(), CORRELATIONS, videos):
        case = f"{name}, icc {icc}, {count} videos"
        rng = np.random.default_rng([len(rows), count])
        said = []
        for _ in range(datasets):
            sizes = rng.integers(1, MOST_QUESTIONS + 1, count)
            benchmark = Benchmark(rng, icc, kind, sizes)
            found = judge_intervals(benchmark)
            if not kind.is_binary:
                found["pass_at_k"] = judge_pass_at_k(benchmark, draws)
            said.append(found)
        rows[case] = {
            column: coverage([found[column] for found in said])
            for column in MEASURES
            if column in said[0]
        }
        rows[case]["without"] = sum(None in found.values() for found in said)
        progress(table({case: rows[case]}).splitlines()[-1] + "\n")
    return rows


def table(rows: Rows) -> str:
    """The shares in Markdown."""
    lines = [f"| case | {' | '.join(MEASURES)} | without |", "|---" * (len(MEASURES) + 2) + "|"]
    for case, row in rows.items():
        shares = [row.get(column) for column in MEASURES]
        cells = ["" if share is None else f"{share:.1%}" for share in shares]
        lines.append(f"| {case} | {' | '.join(cells)} | {row['without']:g} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=1000, help="benchmarks of a case")
    parser.add_argument("--draws", type=int, default=500, help="of the bootstrap of pass@k")
    parser.add_argument("--videos", type=int, nargs="+", default=VIDEOS)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    rows = measure(args.datasets, args.draws, args.videos, sys.stderr.write)
    sys.stdout.write(table(rows) + "\n")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
