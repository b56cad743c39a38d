import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.stages.averages import StepMetrics

numbers = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=20)


def add_all(metrics, values):
    metrics.add_mean("mean", values)
    metrics.add_mean("empty_or_not", values[values > 50])
    metrics.add("ratio", values.abs().sum(), float(len(values)))
    metrics.add("count", len(values), 4)
    metrics.add_sum("sum", values.sum())
    metrics.add_sum("times", 2.5)


@given(st.data())
def test_pieces_in_any_split_give_what_all_gives_at_once(data):
    values = torch.tensor(data.draw(numbers), dtype=torch.float64)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    whole, pieces = StepMetrics(), StepMetrics()
    add_all(whole, values)
    for start, end in zip([0, *cuts], [*cuts, len(values)], strict=True):
        add_all(pieces, values[start:end])
    expected, found = whole.reduced(), pieces.reduced()
    # Sums grow by piece; a count of what is the same in all pieces does too.
    expected["times"] *= len(cuts) + 1
    expected["count"] /= len(cuts) + 1
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-7, nan_ok=True)
    assert found["mean"] == pytest.approx(values.mean().item(), abs=1e-9)
    assert found["sum"] == pytest.approx(values.sum().item(), abs=1e-9)
    assert found["ratio"] == pytest.approx(values.abs().mean().item(), abs=1e-9)


@given(st.lists(numbers, min_size=1, max_size=3), st.integers(0, 10))
def test_correlation_is_numpys_of_what_is_centred_by_group(groups, seed):
    generator = torch.Generator().manual_seed(seed)
    metrics, xs, ys = StepMetrics(), [], []
    for values in groups:
        x = torch.tensor(values, dtype=torch.float64)
        y = x * 0.1 + torch.randn(len(x), generator=generator).double()
        metrics.add_correlation("r", x, y)
        xs.append(x - x.mean())
        ys.append(y - y.mean())
    x, y = torch.cat(xs), torch.cat(ys)
    if x.std() > 1e-3 * (1 + torch.tensor(sum(groups, [])).abs().max()):
        expected = np.corrcoef(x.numpy(), y.numpy())[0, 1]
        assert metrics.reduced()["r"] == pytest.approx(expected, abs=1e-6)


def test_what_groups_have_in_common_is_no_correlation():
    """D rises with quality within each prompt; over both prompts together it seemed to fall."""
    metrics = StepMetrics()
    metrics.add_correlation("r", torch.tensor([0.0, 1.0]), torch.tensor([0.8, 1.0]))
    metrics.add_correlation("r", torch.tensor([9.0, 10.0]), torch.tensor([0.0, 0.2]))
    assert metrics.reduced()["r"] == pytest.approx(1.0)
    # Constant in each group, though not over both.
    metrics.add_correlation("flat", torch.tensor([0.1, 0.1, 0.1]), torch.tensor([0.0, 1.0, 0.0]))
    metrics.add_correlation("flat", torch.tensor([0.7, 0.7]), torch.tensor([0.0, 1.0]))
    assert math.isnan(metrics.reduced()["flat"])


def test_correlation_by_hand_and_without_spread():
    x = torch.tensor([1.0, 2.0, 3.0])
    metrics = StepMetrics()
    metrics.add_correlation("same", x, 2 * x + 1)
    metrics.add_correlation("opposite", x, -x)
    metrics.add_correlation("constant", x, torch.full((3,), 0.1))
    metrics.add_correlation("one", x[:1], x[:1])
    metrics.add_correlation("none", x[:0], x[:0])
    found = metrics.reduced()
    assert found["same"] == pytest.approx(1.0)
    assert found["opposite"] == pytest.approx(-1.0)
    assert all(math.isnan(found[name]) for name in ("constant", "one", "none"))


def test_a_piece_weighs_by_what_it_holds():
    """One of a token beside one of three: a mean of means would be 5."""
    metrics = StepMetrics()
    metrics.add_mean("m", torch.tensor([9.0]))
    metrics.add_mean("m", torch.tensor([1.0, 1.0, 1.0]))
    assert metrics.reduced()["m"] == 3.0


def test_numbers_tensors_and_nothing():
    metrics = StepMetrics()
    metrics.add("mixed", 1, 2)
    metrics.add("mixed", torch.tensor(2), 1.0)
    metrics.add_mean("nothing", torch.zeros(0))
    metrics.add_sum("loss", torch.tensor(0.5, requires_grad=True))
    found = metrics.reduced()
    assert found["mixed"] == 1.0
    assert found["loss"] == 0.5
    assert math.isnan(found["nothing"])
    assert all(type(value) is float for value in found.values())
    assert StepMetrics().reduced() == {}
