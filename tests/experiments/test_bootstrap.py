import math
from dataclasses import dataclass
from statistics import mean

import pytest

from experiments.bootstrap import error_over_videos


@dataclass(frozen=True)
class Value:
    video: str
    value: float


def average(items):
    return mean(item.value for item in items)


def test_it_is_the_error_of_a_mean_over_independent_videos():
    """100 videos of standard deviation 0.5: 0.05."""
    items = [Value(f"v{i}", float(i % 2)) for i in range(100)]
    assert error_over_videos(items, average) == pytest.approx(0.05, rel=0.2)


def test_more_questions_on_the_same_videos_add_nothing():
    items = [Value(f"v{i}", float(i % 2)) for i in range(100)]
    assert error_over_videos(items * 9, average) == pytest.approx(error_over_videos(items, average))


def test_draws_in_which_a_measure_is_not_defined_are_left_out():
    items = [Value("a", 0.0), Value("b", 1.0)]

    def needs_both(drawn):
        return average(drawn) if len({item.video for item in drawn}) == 2 else math.nan

    assert error_over_videos(items, needs_both) == 0.0
    assert math.isnan(error_over_videos(items[:1], needs_both))
