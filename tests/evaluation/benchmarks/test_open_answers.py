import time

import pytest

from lit_vdistill.evaluation.benchmarks.open_answers import is_stated


@pytest.mark.parametrize(
    ("text", "truth", "found"),
    [
        ("3.14159", "3.14", True),
        ("x = 2, so the answer is 3.144", "3.14", True),
        ("The answer is 3.15", "3.14", False),
        ("1,234.5 kg", "1234.5", True),
        ("it is 1.2e3", "1200", True),
        ("-4", "4", False),
        ("x = 5, y = 7", "5", False),
        ("the answer is The Red Disc.", "red disc", True),
        ("predisc", "disc", False),
        ("It is", "it", True),
        ("<think>it is 4</think><answer>5</answer>", "4", False),
        ("<think>it is 4", "4", None),
        ("", "4", None),
        ("NaN", "4", False),
        ("1" * 400, "1", False),
    ],
)
def test_by_hand(text, truth, found):
    assert is_stated(text, [truth]) is found


def test_one_of_several_truths_will_do():
    assert is_stated("a mug", ["cup", "mug"])


@pytest.mark.parametrize("part", ["1", "1,", "1.", "= ", "is ", "1e"])
def test_the_cost_is_linear(part):
    begun = time.process_time()
    is_stated(part * (400_000 // len(part)), ["4", "x"])
    assert time.process_time() - begun < 5
