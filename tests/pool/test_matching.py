from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.pool.matching import MatchingConfig, draw_match, matching_distribution, uniform

qualities = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_equation_4_by_hand():
    config = MatchingConfig(threshold=0.3)
    # 0.2 is below the threshold; 0.5 / 1.5 and 1.0 / 1.5 remain.
    assert matching_distribution([0.5, 0.2, 1.0, 0.0], True, config) == pytest.approx(
        (1 / 3, 0.0, 2 / 3, 0.0)
    )
    assert matching_distribution([0.3, 0.6], True, config) == pytest.approx((1 / 3, 2 / 3))


@given(qualities, st.booleans(), st.floats(0, 1), st.sampled_from(["quality", "uniform"]))
def test_probabilities_sum_to_one_and_nothing_below_the_threshold_is_drawn(
    values, is_closed_ended, threshold, mode
):
    config = MatchingConfig(mode=mode, threshold=threshold)
    probabilities = matching_distribution(values, is_closed_ended, config)
    passing = [q >= threshold and (q > 0 or mode == "uniform") for q in values]
    if is_closed_ended and not any(passing):
        assert probabilities is None
        return
    assert sum(probabilities) == pytest.approx(1.0)
    if is_closed_ended:
        assert all(p == 0 for p, passes in zip(probabilities, passing, strict=True) if not passes)


def test_open_ended_matches_uniformly_whatever_the_quality():
    assert matching_distribution([0.0, 0.9], False, MatchingConfig()) == (0.5, 0.5)


def test_uniform_mode_filters_and_does_not_weight():
    config = MatchingConfig(mode="uniform", threshold=0.3)
    assert matching_distribution([0.4, 1.0, 0.1], True, config) == (0.5, 0.5, 0.0)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        # Table 3. A and B know no truth: the wrong answer is drawn as often as the right one.
        ({"mode": "uniform", "threshold": 0.0}, (0.25, 0.25, 0.25, 0.25)),
        ({"mode": "uniform", "threshold": 0.3}, (0.0, 0.5, 0.5, 0.0)),
        ({"mode": "quality", "threshold": 0.3}, (0.0, 1 / 3, 2 / 3, 0.0)),
        # Table 4, tau = 0: all pass, and Eq. 4 draws them by quality.
        ({"mode": "quality", "threshold": 0.0}, (0.0, 0.3125, 0.625, 0.0625)),
    ],
)
def test_the_settings_of_tables_3_and_4(setting, expected):
    config = MatchingConfig(**setting)
    assert matching_distribution([0.0, 0.5, 1.0, 0.1], True, config) == pytest.approx(expected)


def test_without_a_filter_no_prompt_is_lost():
    """GAD's single response, wrong: it lost a third of its OCR prompts to a filter by truth."""
    gad = MatchingConfig(mode="uniform", threshold=0.0, pool_size=1)
    assert matching_distribution([0.0], True, gad) == (1.0,)
    weighted = MatchingConfig(mode="quality", threshold=0.0)
    assert matching_distribution([0.0, 0.0], True, weighted) is None  # Eq. 4 is 0/0


def test_open_ended_by_lexical_scores_is_filtered_and_weighted():
    """Table 5's other row; their qualities are overlaps then."""
    config = MatchingConfig(open_ended="lexical")
    assert matching_distribution([0.1, 0.4, 0.8], False, config) == pytest.approx((0, 1 / 3, 2 / 3))
    assert matching_distribution([0.1, 0.2], False, config) is None


def test_empty_pool_policies():
    assert matching_distribution([0.0, 0.2], True, MatchingConfig()) is None
    assert matching_distribution([], False, MatchingConfig()) is None
    config = MatchingConfig(empty_pool="uniform")
    assert matching_distribution([0.0, 0.2], True, config) == (0.5, 0.5)


def test_draws_follow_the_distribution_and_repeat():
    p = (0.0, 0.25, 0.75)
    draw = [draw_match(p, seed=1, sample_id="s", rollout=i, step=7) for i in range(2000)]
    assert draw == [draw_match(p, seed=1, sample_id="s", rollout=i, step=7) for i in range(2000)]
    counts = Counter(draw)
    assert counts[0] == 0
    assert counts[2] / 2000 == pytest.approx(0.75, abs=0.03)


def test_draws_change_with_each_part_of_their_key():
    base = {"seed": 1, "sample_id": "s", "rollout": 0, "step": 0}
    p = (1 / 64,) * 64
    changed = [{"seed": 2}, {"sample_id": "t"}, {"rollout": 1}, {"step": 1}]
    drawn = {draw_match(p, **(base | change)) for change in [{}, *changed]}
    assert len(drawn) > 2


def test_uniform_is_the_same_on_every_platform():
    assert uniform("a", 1) == 0.5058861624664538
    assert 0.0 <= uniform(0, "x") < 1.0


@pytest.mark.parametrize("first", [None, 4, 5])
def test_a_second_k_is_above_the_first(first):
    with pytest.raises(
        ValueError, match=rf"if_unequal 4: expected more than matching.pool_size {first}"
    ):
        MatchingConfig(pool_size=first, pool_size_if_unequal=4)
    assert MatchingConfig(pool_size=3, pool_size_if_unequal=4).largest_pool == 4
    assert MatchingConfig(pool_size=first).largest_pool == first
