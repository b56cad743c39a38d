import math
import time
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from lit_vdistill.metrics.intervals import clustered_mean
from lit_vdistill.metrics.pass_at_k import (
    SampledQuestion,
    guess_at_k,
    mean_at_n,
    pass_at_k,
    pass_curve,
)


@pytest.mark.parametrize("drawn", [1, 2, 5, 7])
def test_it_is_the_share_of_all_choices_that_pass(drawn):
    for correct in range(drawn + 1):
        for k in range(1, drawn + 1):
            chosen = list(combinations([True] * correct + [False] * (drawn - correct), k))
            expected = sum(map(any, chosen)) / len(chosen)
            assert pass_at_k(k, correct, drawn) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("correct", [0, 1, 3, 2000, 3999, 4000])
@pytest.mark.parametrize("k", [1, 2, 1333, 3999, 4000])
def test_thousands_of_samples_are_as_exact(correct, k):
    wrong = Fraction(math.comb(4000 - correct, k), math.comb(4000, k))
    assert pass_at_k(k, correct, 4000) == pytest.approx(float(1 - wrong), abs=1e-12)


@pytest.mark.parametrize(
    ("k", "correct", "drawn", "message"),
    [
        (5, 1, 4, "k = 5 and the question with 4; draw more"),
        (0, 1, 4, "k = 0"),
        (1, 5, 4, "5 right samples of 4"),
        (1, -1, 4, "-1 right samples"),
        (1, 0, 0, "with 0"),
    ],
)
def test_impossible_counts_are_refused(k, correct, drawn, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(k, correct, drawn)


def test_guessing():
    assert guess_at_k(1, 4) == 0.25
    assert guess_at_k(2, 4) == pytest.approx(1 - 9 / 16)
    assert guess_at_k(3, None) == 0.0
    assert guess_at_k(3, 1) == 1.0
    with pytest.raises(ValueError, match="got 0"):
        guess_at_k(1, 0)


def test_the_curve_of_three_questions_by_hand():
    questions = [
        SampledQuestion(4, 1, "a", 4),
        SampledQuestion(4, 4, "a", 2),
        SampledQuestion(3, 0, "b"),
    ]
    curve = pass_curve(questions)
    assert [point.k for point in curve] == [1, 2, 3]  # as far as the least n
    expected = [(1 / 4 + 1 + 0) / 3, (1 / 2 + 1 + 0) / 3, (3 / 4 + 1 + 0) / 3]
    assert [point.passed.value for point in curve] == pytest.approx(expected)
    mean = sum(mean_at_n(q.correct, q.drawn) for q in questions) / 3
    assert curve[0].passed.value == pytest.approx(mean)
    guessed = [(0.25 + 0.5) / 3, (1 - 0.75**2 + 0.75) / 3]
    assert [point.guess for point in curve[:2]] == pytest.approx(guessed)
    assert (curve[0].passed.count, curve[0].passed.clusters) == (3, 2)
    # Draws are a twice, a and b, or b twice.
    assert (curve[0].passed.low, curve[0].passed.high) == pytest.approx((0.0, 0.625))


def test_without_options_there_is_no_curve_of_guessing():
    assert [point.guess for point in pass_curve([SampledQuestion(2, 1, "a")])] == [None, None]


def many(num_clusters, *, seed=0, samples=8):
    rng = np.random.default_rng(seed)
    return [
        SampledQuestion(samples, int(rng.binomial(samples, chance)), video, 4)
        for video, chance in enumerate(rng.beta(1.0, 2.0, num_clusters))
        for _ in range(rng.integers(1, 11))
    ]


def test_the_bootstrap_agrees_with_the_interval_of_a_mean():
    questions = many(200)
    clusters = [question.cluster for question in questions]
    for point in pass_curve(questions)[::3]:
        values = [pass_at_k(point.k, q.correct, q.drawn) for q in questions]
        expected = clustered_mean(values, clusters)
        assert point.passed.value == pytest.approx(expected.value)
        assert point.passed.standard_error == pytest.approx(expected.standard_error, rel=0.06)
        width = expected.high - expected.low
        assert point.passed.low == pytest.approx(expected.low, abs=0.06 * width)
        assert point.passed.high == pytest.approx(expected.high, abs=0.06 * width)


def test_a_seed_repeats_the_draws():
    questions = many(10)
    assert pass_curve(questions, seed=3) == pass_curve(questions, seed=3)
    assert pass_curve(questions, seed=3) != pass_curve(questions, seed=4)


def test_pass_at_k_does_not_fall_and_stays_a_share():
    curve = pass_curve(many(30))
    values = [point.passed.value for point in curve]
    assert values == sorted(values)
    assert all(0.0 <= p.passed.low <= p.passed.value <= p.passed.high <= 1.0 for p in curve)


def test_where_all_pass_the_interval_is_the_exact_one():
    curve = pass_curve([SampledQuestion(3, 1, video) for video in range(5)])
    assert curve[0].passed.low is None
    assert "same score" in curve[0].passed.note
    assert (curve[2].passed.low, curve[2].passed.high) == pytest.approx((0.025 ** (1 / 5), 1.0))


def test_one_video_says_nothing_of_others():
    (point,) = pass_curve([SampledQuestion(1, 1, "a"), SampledQuestion(1, 0, "a")])
    assert (point.passed.value, point.passed.low) == (0.5, None)


@pytest.mark.parametrize(
    ("questions", "options", "message"),
    [
        ([], {}, "one question or more"),
        ([SampledQuestion(2, 1, "a"), SampledQuestion(2, 3, "a")], {}, "question 1 has 3 right"),
        ([SampledQuestion(2, 1, "a")], {"draws": 1}, "2 draws or more"),
        ([SampledQuestion(2, 1, "a")], {"level": 95.0}, "level between 0 and 1"),
    ],
)
def test_bad_questions_are_refused(questions, options, message):
    with pytest.raises(ValueError, match=message):
        pass_curve(questions, **options)


def test_a_benchmark_takes_seconds_at_most():
    questions = [SampledQuestion(64, i % 65, i // 4, 4) for i in range(3200)]
    start = time.perf_counter()
    pass_curve(questions)
    assert time.perf_counter() - start < 5.0  # a twentieth of a second on one core
