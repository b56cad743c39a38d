import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lit_vdistill.stages.pieces import check_pieces, cut

costs_of = st.lists(st.integers(1, 50), min_size=1, max_size=14)
pieces_of = st.integers(1, 18)


def total(costs, piece):
    return sum(costs[i] for i in piece)


@given(costs_of, pieces_of, st.integers(1, 400))
def test_pieces_hold_every_group_once_in_order_within_the_bound(costs, count, bound):
    try:
        pieces = cut(costs, count, bound)
    except ValueError:
        assume(False)
    assert len(pieces) == count
    assert [i for piece in pieces for i in piece] == list(range(len(costs)))
    assert all(total(costs, piece) <= bound for piece in pieces)


@given(costs_of, pieces_of)
def test_no_cut_in_order_has_a_smaller_largest_piece(costs, count):
    """Against all that dynamic programming tries; and nobody idles while another has two."""
    pieces = cut(costs, count, sum(costs))
    best = [0.0] + [float("inf")] * len(costs)
    for _ in range(count):
        best = [0.0] + [
            min(max(best[start], sum(costs[start:end])) for start in range(end + 1))
            for end in range(1, len(costs) + 1)
        ]
    assert max(total(costs, piece) for piece in pieces) == best[-1]
    sizes = [len(piece) for piece in pieces]
    assert 0 not in sizes or max(sizes) == 1
    assert sizes.count(0) == max(0, count - len(costs))


def test_equal_groups_are_cut_evenly():
    assert cut([10] * 8, 4, 80) == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert [len(piece) for piece in cut([10] * 7, 3, 80)] == [3, 3, 1]
    assert cut([30, 10, 10, 10], 2, 60) == ((0,), (1, 2, 3))
    assert cut([10, 10], 4, 20).count(()) == 2


@given(costs_of, pieces_of, st.integers(1, 100))
def test_an_error_says_what_helps(costs, count, bound):
    """A bound that no group exceeds, then pieces; less than that is an error still."""
    try:
        cut(costs, count, bound)
    except ValueError as error:
        message = str(error)
    else:
        assume(False)
    if max(costs) > bound:
        needed = int(re.search(r"raise that to (\d+)", message).group(1))
        assert needed == max(costs)
        cut(costs, len(costs), needed)
    else:
        needed = int(re.search(r"accumulate_grad_batches to (\d+) or more", message).group(1))
        cut(costs, needed, bound)
        with pytest.raises(ValueError, match=f"needs {needed} pieces .* got {needed - 1}"):
            cut(costs, needed - 1, bound)


@given(st.data())
def test_the_check_lets_pass_what_can_always_be_cut_and_nothing_else(data):
    """Its number of pieces holds any window, and one less not the window of the largest groups."""
    largest, size = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 14))
    bound = data.draw(st.integers(largest, 4 * largest))
    costs = data.draw(st.lists(st.integers(1, largest), min_size=1, max_size=size))
    needed = 1
    try:
        check_pieces(largest, size, 1, bound)
    except ValueError as error:
        needed = int(re.search(r"accumulate_grad_batches to (\d+) or more", str(error)).group(1))
        with pytest.raises(ValueError, match=f"takes {needed} of them"):
            check_pieces(largest, size, needed - 1, bound)
        with pytest.raises(ValueError, match=f"needs {needed} pieces"):
            cut([largest] * size, needed - 1, bound)
    for count in (needed, needed + 3):
        check_pieces(largest, size, count, bound)
        for window in (costs, [largest] * size):
            assert len(cut(window, count, bound)) == count


def test_a_group_beyond_the_bound_is_told_what_would_fit():
    with pytest.raises(ValueError, match=r"raise that to 12 .*checkpointing.*group_size.*max_comp"):
        check_pieces(12, 4, 9, 11)
