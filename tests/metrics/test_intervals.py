import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lit_vdistill.metrics.intervals import (
    clustered_function,
    clustered_mean,
    paired_difference,
    share_without_spread,
)


def gathered(num_clusters, *, seed, alike=0.7):
    """Items of unequal clusters; an item has its cluster's value in `alike` of the cases."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(num_clusters), rng.integers(1, 11, num_clusters))
    values, own = rng.random(num_clusters)[clusters], rng.random(len(clusters))
    values = np.where(rng.random(len(clusters)) < alike, values, own)
    return values.tolist(), clusters.tolist()


def test_two_unequal_clusters_by_hand():
    """Mean 1/3; sums of deviations ±2/3, shares 1/3 and 2/3: (4/9 · 3/2 + 4/9 · 3) / 9 = 2/9."""
    found = clustered_mean([1.0, 0.0, 0.0], ["a", "b", "b"])
    assert found.value == pytest.approx(1 / 3)
    assert found.standard_error == pytest.approx(math.sqrt(2 / 9))
    assert (found.count, found.clusters, found.degrees) == (3, 2, pytest.approx(1.0))
    half = stats.t.ppf(0.975, 1) * math.sqrt(2 / 9)
    assert (found.low, found.high) == (
        pytest.approx(1 / 3 - half),
        pytest.approx(1 / 3 + half),
    )


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_one_item_a_cluster_has_the_usual_t_interval(level):
    values, _ = gathered(7, seed=1)
    found = clustered_mean(values, [("video", i) for i in range(len(values))], level)
    error = statistics.stdev(values) / math.sqrt(len(values))
    low, high = stats.t.interval(level, len(values) - 1, statistics.mean(values), error)
    assert (found.standard_error, found.degrees) == pytest.approx((error, len(values) - 1))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.note == ""


def test_the_error_and_its_degrees_as_quadratic_forms():
    """CR2 of the clustered mean and Satterthwaite's degrees, by whole matrices."""
    values, clusters = gathered(12, seed=2)
    member = np.equal.outer(np.arange(12), clusters).astype(float)
    share = member.mean(axis=1)
    forms = (member - share[:, None]) / np.sqrt(1 - share)[:, None]
    inner = forms @ (member.T @ member) @ forms.T
    found = clustered_mean(values, clusters)
    assert found.standard_error == pytest.approx(np.linalg.norm(forms @ values) / len(values))
    assert found.degrees == pytest.approx(np.trace(inner) ** 2 / np.trace(inner @ inner))
    assert 1 <= found.degrees < 11


def test_items_may_come_in_any_order():
    values, clusters = gathered(20, seed=3)
    pairs = list(zip(values, clusters, strict=True))
    random.Random(0).shuffle(pairs)
    ordered = clustered_mean(values, clusters)
    mixed = clustered_mean([value for value, _ in pairs], [cluster for _, cluster in pairs])
    assert (mixed.low, mixed.high) == pytest.approx((ordered.low, ordered.high))


def test_asking_the_same_again_adds_nothing():
    values, clusters = gathered(20, seed=4)
    once, thrice = clustered_mean(values, clusters), clustered_mean(values * 3, clusters * 3)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.count == 3 * once.count


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.sampled_from("abc")), min_size=1, max_size=12
    ).filter(lambda items: len({cluster for _, cluster in items}) > 1)
)
def test_any_items_have_an_interval_around_their_mean_or_say_why_not(items):
    values, clusters = map(list, zip(*items, strict=True))
    found = clustered_mean(values, clusters)
    assert found.value == pytest.approx(statistics.fmean(values), abs=1e-9)
    if found.low is None:
        assert found.note.startswith("no interval")
    else:
        assert found.low <= found.value <= found.high
        assert math.isfinite(found.high - found.low)


COVERED = {"clustered": (0.91, 0.98), "naive": (0.0, 0.8)}


@pytest.mark.parametrize("kind", COVERED)
def test_of_two_hundred_sets_the_interval_covers_what_it_says(kind):
    """A naive interval, in which each item is a cluster, is far from it."""
    covered = 0
    for seed in range(200):
        values, clusters = gathered(40, seed=seed)
        of_items = list(range(len(values))) if kind == "naive" else clusters
        found = clustered_mean(values, of_items)
        covered += found.low <= 0.5 <= found.high
    least, most = COVERED[kind]
    assert least <= covered / 200 <= most


def test_shares_without_spread_have_the_exact_interval_of_their_clusters():
    found = clustered_mean([1.0] * 9, [*"aaabbbccc"])
    exact = stats.binomtest(3, 3).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert "3 independent items" in found.note
    zeros = share_without_spread(0.0, 9, 3, 0.9)
    exact = stats.binomtest(0, 3).proportion_ci(0.9, method="exact")
    assert (zeros.low, zeros.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(
    ("values", "clusters", "why"),
    [
        ([0.3, 0.3], "ab", "all clusters have the same score"),
        ([0.0, 1.0, 1.0, 0.0], "aabb", "all clusters have the same score"),
        ([0.3], "a", "from one cluster"),
        ([0.0, 1.0], "aa", "from one cluster"),
    ],
)
def test_where_nothing_varies_there_is_no_interval(values, clusters, why):
    found = clustered_mean(values, list(clusters))
    assert (found.low, found.high, found.standard_error) == (None, None, None)
    assert found.note.startswith("no interval")
    assert why in found.note


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([], [], "has no value"),
        ([0.5, math.nan], ["a", "b"], "value 1: expected a finite number, got nan"),
        ([math.inf], ["a"], "got inf"),
        ([0.5], ["a", "b"], "1 values for 2 items"),
    ],
)
def test_bad_values_are_refused(values, clusters, message):
    with pytest.raises(ValueError, match=message):
        clustered_mean(values, clusters)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_a_level_is_a_share(level):
    with pytest.raises(ValueError, match=r"level: expected .* such as 0\.95"):
        clustered_mean([0.0, 1.0], ["a", "b"], level)


def test_a_difference_is_of_the_same_items():
    a = {"1": 1.0, "2": 1.0, "3": 0.0, "4": 1.0}
    b = {"4": 1.0, "3": 0.0, "2": 0.0, "1": 0.0}
    found = paired_difference(a, b, {"1": "u", "2": "v", "3": "w", "4": "x", "5": "y"})
    usual = stats.ttest_rel([1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0])
    assert found.value == 0.5
    assert found.p_value == pytest.approx(usual.pvalue)
    quantiles = stats.t.ppf(0.975, 3) + stats.t.ppf(0.8, 3)
    assert found.detectable == pytest.approx(quantiles * found.standard_error)
    back = paired_difference(b, a, dict.fromkeys("1234") | {"1": "u", "2": "v", "3": "w"})
    assert (back.value, back.low, back.high) == pytest.approx((-0.5, -found.high, -found.low))


def test_a_difference_of_no_difference():
    found = paired_difference({"1": 1.0, "2": 0.0}, {"1": 1.0, "2": 0.0}, {"1": "u", "2": "v"})
    assert (found.value, found.low, found.p_value, found.detectable) == (0.0, None, None, None)
    assert "same score" in found.note


def test_what_is_detectable_is_found_in_four_cases_of_five():
    rng, found, size = np.random.default_rng(5), 0, 0.0
    for _ in range(300):
        noise = {str(i): float(value) for i, value in enumerate(rng.normal(size=30))}
        zeros, clusters = dict.fromkeys(noise, 0.0), {i: i for i in noise}
        size = paired_difference(noise, zeros, clusters).detectable
        moved = {i: value + size for i, value in noise.items()}
        found += paired_difference(moved, zeros, clusters).p_value < 0.05
    assert 0.74 <= found / 300 <= 0.86


@pytest.mark.parametrize(
    ("a", "b", "clusters", "message"),
    [
        ({"ä": 1.0}, {}, {"ä": 1}, r"1 of 1 items of A are not among those of B: \['ä'\]"),
        ({}, {"x": 1.0}, {"x": 1}, r"1 of 1 items of B are not among those of A: \['x'\]"),
        ({"x": 1.0}, {"x": 1.0}, {}, r"not among those of the clusters: \['x'\]"),
        ({"x": 1.0}, {"x": math.nan}, {"x": 1}, "B's value of item 'x': expected a finite"),
        ({}, {}, {}, "has no value"),
    ],
)
def test_items_without_a_partner_are_named(a, b, clusters, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b, clusters)


def test_many_items_without_a_partner_are_counted():
    with pytest.raises(ValueError, match=r"^30 of 30 items .{0,80}; a comparison"):
        paired_difference({str(i): 1.0 for i in range(30)}, {}, {})


def test_a_function_of_one_mean_is_the_mean():
    values, clusters = gathered(15, seed=6)
    plain = clustered_mean(values, clusters)
    found = clustered_function({"x": values}, clusters, lambda m: 3.0 - 2.0 * m["x"])
    assert found.value == pytest.approx(3.0 - 2.0 * plain.value)
    assert found.standard_error == pytest.approx(2.0 * plain.standard_error)
    assert found.degrees == plain.degrees


def test_a_function_of_two_means_by_hand():
    """Cluster a has both, b the first alone: without a, the second has no mean."""
    columns = {"x": [1.0, 0.0, 0.0], "y": [1.0, 0.0, None]}
    found = clustered_function(columns, ["a", "c", "b"], lambda m: m["x"] + m["y"])
    # x: 1/3, without a, c, b 0, 1/2, 1/2; y: 1/2, without them 0, 1, 1/2; a cluster's least share
    # is 1/3 for a and c, 0 for b.
    square = ((5 / 6) ** 2 + (2 / 3) ** 2) * 2 / 3 + (1 / 6) ** 2
    assert found.value == pytest.approx(5 / 6)
    assert found.standard_error == pytest.approx(math.sqrt(square))
    assert found.degrees == pytest.approx(1.0)


def test_a_mean_that_rests_on_one_cluster_has_no_interval():
    columns = {"x": [1.0, 0.0, 0.0], "y": [1.0, 0.0, None]}
    found = clustered_function(columns, ["a", "a", "b"], lambda m: m["x"] + m["y"])
    assert found.low is None
    assert "['y']" in found.note


def test_items_without_any_value_do_not_count():
    columns = {"x": [1.0, 0.0, None], "y": [1.0, 0.5, None]}
    found = clustered_function(columns, ["a", "b", "c"], lambda m: m["x"] * m["y"])
    assert (found.count, found.clusters) == (2, 2)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "one column or more"),
        ({"x": [0.5]}, "'x' has 1 values for 2"),
        ({"x": [None, None]}, "'x' has no value"),
        ({"x": [None, math.nan]}, "value 1 of column 'x'"),
        ({"x": [1.0, 1.0]}, "finite score"),
    ],
)
def test_bad_columns_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        clustered_function(columns, ["a", "b"], lambda m: math.nan)


def test_a_score_that_needs_every_cluster_has_no_interval():
    columns = {"x": [1.0, 0.5], "y": [1.0, 0.0]}

    def ratio(means):
        return means["x"] / means["y"] if means["y"] else math.inf

    found = clustered_function(columns, ["a", "b"], ratio)
    assert (found.value, found.low) == (1.5, None)
    assert "not finite without" in found.note
