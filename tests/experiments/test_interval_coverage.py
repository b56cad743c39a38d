import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from experiments import interval_coverage
from experiments.interval_coverage import (
    CORRELATIONS,
    KINDS,
    MEASURES,
    VIDEOS,
    Benchmark,
    Kind,
    coverage,
    covers,
    measure,
    table,
)
from lit_vdistill.metrics.intervals import Estimate

STORED = json.loads(Path("experiments/interval_coverage.json").read_text())


def large(kind, icc, *, videos=20_000):
    rng = np.random.default_rng(0)
    return Benchmark(rng, icc, kind, rng.integers(1, 11, videos))


@pytest.mark.parametrize("name", KINDS)
def test_the_truth_is_the_mean_of_a_large_benchmark(name):
    kind = KINDS[name]
    benchmark = large(kind, 0.5)
    first = benchmark.answers()
    gained = benchmark.others(first) - first
    assert first.mean() == pytest.approx(kind.truth(), abs=0.01)
    assert gained.mean() == pytest.approx((kind.truth(kind.gain) - kind.truth()) / 2, abs=0.01)


@pytest.mark.parametrize("icc", [0.0, 0.5, 1.0])
def test_answers_about_one_video_correlate_as_told(icc):
    benchmark = large(KINDS["tIoU"], icc)
    answers, starts = benchmark.answers(), np.cumsum(benchmark.sizes) - benchmark.sizes
    with_two = starts[benchmark.sizes >= 2]
    found = np.corrcoef(answers[with_two], answers[with_two + 1])[0, 1]
    assert found == pytest.approx(icc, abs=0.03)


def test_a_harder_video_has_more_questions():
    """One question 1, ten questions 0.5: (1·1 + … + 10·0.5) / 55 of the mean."""
    kind = Kind(1.0, 1.0, 0.0, hardness=0.5)
    expected = sum(n * (1.0 - 0.5 * (n - 1) / 9) for n in range(1, 11)) / 55 / 2
    assert kind.truth() == pytest.approx(expected)


def test_what_covers():
    estimate = Estimate(0.5, 0.4, 0.6, 0.05, 9, 9, 8.0)
    none = Estimate(0.5, None, None, None, 9, 1, None)
    said = [covers(estimate, truth) for truth in (0.4, 0.5, 0.7)] + [covers(none, 0.5)]
    assert said == [True, True, False, None]
    assert coverage(said) == pytest.approx(2 / 3)
    assert coverage([None]) is None


def test_few_benchmarks_fill_every_column(monkeypatch):
    monkeypatch.setattr(interval_coverage, "KINDS", {"tIoU": KINDS["tIoU"]})
    lines = []
    rows = measure(3, 20, [12], lines.append)
    assert list(rows) == ["tIoU, icc 0.0, 12 videos", "tIoU, icc 0.5, 12 videos"]
    for row in rows.values():
        assert set(row) == {*MEASURES, "without"}
        assert all(row[column] in (0.0, 1 / 3, 2 / 3, 1.0) for column in MEASURES)
    assert len(lines) == 2
    assert table(rows).count("\n") == 3


def test_the_stored_figures_hold_what_the_intervals_promise():
    for kind, icc, videos in product(KINDS, CORRELATIONS, VIDEOS):
        row = STORED[f"{kind}, icc {icc}, {videos} videos"]
        if videos >= 100 and kind != "binary, near 1":
            assert 0.93 <= row["score"] <= 0.97
            assert 0.93 <= row["difference"] <= 0.97
            assert 0.93 <= row["lgm"] <= 0.97
            assert 0.75 <= row["power"] <= 0.85
        if icc:
            assert row["naive"] < 0.75
