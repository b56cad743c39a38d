import math

import pytest
import torch
from torch import nn

from experiments import released_precision
from experiments.released_precision import WALKS, ema_moves, precision


def rounded(value):
    """To bfloat16: 8 significant binary digits, ties to even."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 256), exponent - 8)


@pytest.mark.parametrize("start", [1.0, 0.02, 1e-4, 0.0])
def test_teachers_follow_a_straight_walk_as_by_hand(start):
    """A large weight never leaves its place, a small one does; the float32 teacher always moves."""
    network = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.constant_(network.weight, start)
    found = ema_moves(network, WALKS["straight"], num_steps=300)
    master = teacher = exact = first = rounded(start)
    has_changed = False
    for _ in range(300):
        master += 1e-6
        student = rounded(master)
        teacher = rounded(rounded(teacher * 0.99) + 0.01 * student)
        exact += 0.01 * (student - exact)
        has_changed |= teacher != first
    assert found["ever_changed"] == float(has_changed)
    assert found["changed"] == float(teacher != first)
    assert has_changed == (start < 0.01)
    if exact != first:
        expected = abs(teacher - first) / abs(exact - first)
        assert found["length"] == pytest.approx(expected, rel=0.05, abs=1e-3)


def test_a_random_walk_goes_either_way():
    torch.manual_seed(0)
    steps = WALKS["random_walk"](torch.zeros(1000))
    assert set(steps.tolist()) == {-1.0, 1.0}
    assert abs(steps.mean().item()) < 0.1


def test_what_rounding_does_to_weights_by_hand():
    pairs = [(0.01, 0.0), (0.0, 0.0), (0.5, 0.5), (-0.1, -0.125), (-0.04, -0.03125)]
    found = precision(pairs)
    assert found["tokens"] == 5
    assert found["mean_error"] == pytest.approx((0.01 + 0.025 + 0.00875) / 5, rel=1e-4)
    assert found["max_error"] == pytest.approx(0.025, rel=1e-4)
    worst = math.exp(-0.1) - math.exp(-0.125)
    assert found["max_weight_error"] == pytest.approx(worst, rel=1e-4)
    assert found["near"] == pytest.approx(3 / 5)
    assert found["one_where_near_float32"] == pytest.approx(1 / 3)
    assert found["one_where_near_bfloat16"] == pytest.approx(2 / 3)
    assert found["one_where_near_but_not_0_float32"] == 0.0
    assert found["one_where_near_but_not_0_bfloat16"] == pytest.approx(1 / 2)


def test_the_report_names_every_figure():
    row = {"ever_changed": 0.2, "changed": 0.1, "cosine": 0.39, "length": 0.5}
    text = released_precision.table({"s": {"straight": row}}, {"mean_error": 0.0123})
    assert "| s | straight | 20.0% | 10.0% | 0.39 | 0.50 |" in text
    assert "| mean_error | 0.0123 |" in text
