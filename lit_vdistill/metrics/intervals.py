"""Scores with intervals, where questions about one video are not independent.

All intervals are by whole clusters (videos), for the mean over items of a population from which the
videos were drawn. The standard error is CR2 (Bell and McCaffrey 2002), in which one item a cluster
is the textbook's; the plain sandwich is too narrow for few unequal clusters. It is computed as a
jackknife: each cluster is left out in turn, which gives CR2 exactly for a mean and carries it over
to scores that are functions of several means. Nothing is drawn, so nothing needs a seed, and a
score's function is asked for real items' means only, never for a step beyond them, as a numerical
derivative would. `experiments/interval_coverage.json` says how often the intervals cover.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import stdtr, stdtrit

POWER = 0.8
"""With which `Difference.detectable` would have been found."""
_ROUNDING = 1e-12
_NAMED = 5
"""Items that an error names, at most."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score with its interval."""

    value: float
    low: float | None
    """None, as `high`: these items do not say how far off the score may be; `note` says why."""
    high: float | None
    standard_error: float | None
    """None where there is no interval or it does not rest on one."""
    count: int
    """Items."""
    clusters: int
    degrees: float | None
    """Of freedom, of the t distribution behind the interval; None = it is another one."""
    note: str = ""
    """Why there is no interval, or what the unusual one rests on."""


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """A difference of two students on the same items."""

    p_value: float | None = None
    """Two-sided, of no difference; None without a standard error."""
    detectable: float | None = None
    """The true difference that these items would have shown at the level in four cases of five."""


def clustered_mean(
    values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95
) -> Estimate:
    """Mean over items with an interval over clusters.

    Values that are all 0 or all 1 are read as shares, with the exact interval of so many clusters,
    as if a cluster's items were one (`share_without_spread`). Of a share near 0 or 1 that a few
    clusters decide, the interval is too narrow and may leave [0, 1].

    Args:
        values: One an item.
        clusters: Each item's, its video say.
        level: Of the interval.

    Raises:
        ValueError: Without items, for a value that is no finite number, for unequal lengths.
    """
    for position, value in enumerate(values):
        if not _is_finite(value):
            raise _not_finite(f"value {position}", value)
    found = clustered_function({"value": values}, clusters, lambda means: means["value"], level)
    if min(values) == max(values) and found.value in (0.0, 1.0):
        return share_without_spread(found.value, found.count, found.clusters, level)
    return found


def paired_difference(
    a: Mapping[str, float],
    b: Mapping[str, float],
    clusters: Mapping[str, Hashable],
    level: float = 0.95,
) -> Difference:
    """Mean of A less B over the same items, with an interval over clusters.

    `detectable` is the sum of both t quantiles times the standard error (Bloom 1995, "Minimum
    Detectable Effects"), two-sided at the level, with a power of `POWER`.

    Args:
        a: A value an item, by its id.
        b: The same items' under the other student.
        clusters: Each item's; items beyond those of `a` and `b` do no harm.
        level: Of the interval.

    Raises:
        ValueError: Without items, for an item that has no partner or no cluster, by name, and for a
            value that is no finite number.
    """
    _check_same_items(a, b, "A", "B")
    _check_same_items(b, a, "B", "A")
    _check_same_items(a, clusters, "A", "the clusters")
    for student, values in (("A", a), ("B", b)):
        for item, value in values.items():
            if not _is_finite(value):
                raise _not_finite(f"{student}'s value of item {item!r}", value)
    found = clustered_function(
        {"difference": [a[item] - b[item] for item in a]},
        [clusters[item] for item in a],
        lambda means: means["difference"],
        level,
    )
    fields = {name: getattr(found, name) for name in Estimate.__dataclass_fields__}
    if found.standard_error is None or found.degrees is None:
        return Difference(**fields)
    quantiles = stdtrit(found.degrees, [(1.0 + level) / 2.0, POWER])
    return Difference(
        **fields,
        p_value=float(2.0 * stdtr(found.degrees, -abs(found.value) / found.standard_error)),
        detectable=float(quantiles.sum() * found.standard_error),
    )


def clustered_function(
    columns: Mapping[str, Sequence[float | None]],
    clusters: Sequence[Hashable],
    function: Callable[[Mapping[str, float]], float],
    level: float = 0.95,
) -> Estimate:
    """A score that is a function of several means, with an interval over clusters.

    A cluster's deviation is the score without it less the score, times √(1 - h) with h its share of
    the items (the least one over columns, where they differ): for one mean, the CR2 standard error.
    The degrees of freedom are Satterthwaite's under videos whose items are all alike, the cautious
    end, of the column that has the fewest.

    Args:
        columns: By name, one value an item; None = the item does not count in that mean.
        clusters: Each item's, its video say.
        function: From each column's mean over its items to the score, smooth where the means lie.
            It is called once a cluster.
        level: Of the interval.

    Raises:
        ValueError: For a column without values or of another length, a value that is neither None
            nor a finite number, and a score that is not finite.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: expected a number between 0 and 1, such as 0.95, got {level}")
    table = _table(columns, len(clusters))
    counted = np.flatnonzero((~np.isnan(table)).any(axis=1)).tolist()
    index = cluster_index([clusters[item] for item in counted])
    sums = cluster_sums(np.nan_to_num(table[counted]), index)
    sizes = cluster_sums((~np.isnan(table[counted])).astype(float), index)
    names, totals, counts = list(columns), sums.sum(axis=0), sizes.sum(axis=0)

    def score(means: Float[ndarray, "columns"]) -> float:
        return float(function(dict(zip(names, means.tolist(), strict=True))))

    value = score(totals / counts)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite score of {names}, got {value} for all items")
    unknown = Estimate(value, None, None, None, len(counted), len(sums), None)
    alone = [names[column] for column in np.flatnonzero((sizes == counts).any(axis=0))]
    if alone:
        return replace(unknown, note=f"no interval: all values of {alone} come from one cluster")
    without = np.array([score(row) for row in (totals - sums) / (counts - sizes)])
    shares = sizes / counts
    error = float(np.sqrt(((without - value) ** 2 * (1.0 - shares.min(axis=1))).sum()))
    if not math.isfinite(error):
        return replace(unknown, note="no interval: the score is not finite without some cluster")
    if error <= _ROUNDING * max(1.0, abs(value)):
        return replace(unknown, note="no interval: all clusters have the same score")
    degrees = min(_degrees(column) for column in shares.T)
    half = float(stdtrit(degrees, (1.0 + level) / 2.0)) * error
    return replace(
        unknown, low=value - half, high=value + half, standard_error=error, degrees=degrees
    )


def share_without_spread(value: float, count: int, clusters: int, level: float) -> Estimate:
    """A share that is 0 or 1 throughout, with the interval of Clopper and Pearson of its clusters.

    As many independent items as clusters is the least that there may be, so it is a wide one.

    Args:
        value: 0 or 1.
        count: Items.
        clusters: Clusters.
        level: Of the interval.
    """
    edge = ((1.0 - level) / 2.0) ** (1.0 / clusters)
    low, high = (edge, 1.0) if value == 1.0 else (0.0, 1.0 - edge)
    note = f"all items have {value:g}: exact interval of {clusters} independent items"
    return Estimate(value, low, high, None, count, clusters, None, note)


def cluster_index(clusters: Sequence[Hashable]) -> Int[ndarray, "items"]:
    """Clusters as numbers from 0, in the order of their first items."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=int)


def cluster_sums(
    table: Float[ndarray, "items columns"], index: Int[ndarray, "items"]
) -> Float[ndarray, "clusters columns"]:
    """Sums of each column by cluster, as `cluster_index` numbers them."""
    return np.stack([np.bincount(index, column) for column in table.T], axis=1)


def _degrees(shares: Float[ndarray, "clusters"]) -> float:
    """Satterthwaite's degrees of freedom of the CR2 variance of a mean.

    The variance is a quadratic form Σ (uᵢ·y)², uᵢ = (1ᵢ - hᵢ 1) / √(1 - hᵢ); the degrees are
    tr(M)² / tr(M²) with Mᵢⱼ = uᵢ' Ω uⱼ (Bell and McCaffrey 2002). Ω has ones within a cluster, so a
    cluster's sum has variance nᵢ² ∝ hᵢ²; they take the identity, which has more degrees.
    """
    weights = 1.0 / (1.0 - shares)
    variances = shares**2
    total = variances.sum()
    off = shares**2 * total - 2.0 * shares * variances
    trace = (weights * (variances + off)).sum()
    vv, hh, hv = (
        (weights * x).sum() for x in (variances**2, shares**2, shares * variances)
    )  # of the part of M that is not diagonal, squared
    diagonal = (weights**2 * (variances**2 + 2.0 * variances * off)).sum()
    square = diagonal + 2.0 * vv * hh + (hh * total) ** 2 + 2.0 * hv**2 - 4.0 * total * hh * hv
    return float(trace**2 / square)


def _table(
    columns: Mapping[str, Sequence[float | None]], count: int
) -> Float[ndarray, "items columns"]:
    """Values with NaN for None, checked."""
    if not columns:
        raise ValueError("expected one column or more, got none")
    for name, values in columns.items():
        if len(values) != count:
            raise ValueError(
                f"column {name!r} has {len(values)} values for {count} items with a cluster; "
                "give each item one of both"
            )
        for position, value in enumerate(values):
            if value is not None and not _is_finite(value):
                raise _not_finite(f"value {position} of column {name!r}", value)
        if all(value is None for value in values):
            raise ValueError(f"column {name!r} has no value of any item; expected one at least")
    rows = [[math.nan if v is None else float(v) for v in values] for values in columns.values()]
    return np.array(rows).T


def _is_finite(value: object) -> bool:
    return isinstance(value, (float, Real)) and math.isfinite(value)


def _not_finite(what: str, value: object) -> ValueError:
    return ValueError(
        f"{what}: expected a finite number, got {value!r}; score an item that failed as 0, or "
        "leave it out for all"
    )


def _check_same_items(
    items: Mapping[str, object], others: Mapping[str, object], whose: str, where: str
) -> None:
    missing = [item for item in items if item not in others]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(items)} items of {whose} are not among those of {where}: "
            f"{missing[:_NAMED]}; a comparison is of the same items"
        )
