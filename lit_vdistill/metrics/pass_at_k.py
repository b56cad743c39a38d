"""pass@k without bias, beside what guessing would have (arXiv:2107.03374, arXiv:2504.13837)."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lit_vdistill.metrics.intervals import Estimate, cluster_index, cluster_sums, clustered_mean

_DRAWS_AT_ONCE = 100
"""Of the bootstrap; bounds its memory."""
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class SampledQuestion:
    """How often a question was answered right."""

    drawn: int
    """Samples, n."""
    correct: int
    """Right ones among them, c."""
    cluster: Hashable
    """The question's video, say."""
    num_options: int | None = None
    """What a guess chooses from; None = there is nothing to guess from."""


@dataclass(frozen=True, slots=True)
class PassAtK:
    """One point of the curve."""

    k: int
    passed: Estimate
    """pass@k over questions; at k = 1 it is mean@n."""
    guess: float | None
    """pass@k of guessing at the same questions; None = no question has options."""


def pass_at_k(k: int, correct: int, drawn: int) -> float:
    """Probability that one of k samples is right, from `correct` among `drawn`, without bias.

    1 - C(n - c, k) / C(n, k) (Chen et al. 2021, Eq. 1).

    Raises:
        ValueError: For k outside 1 to `drawn`, and `correct` outside 0 to `drawn`.
    """
    _check(drawn, correct, k, "the question")
    return float(_passed(np.array([[drawn, correct]]), k)[0, -1])


def mean_at_n(correct: int, drawn: int) -> float:
    """Share of right samples, c / n, which is pass@1.

    Raises:
        ValueError: As `pass_at_k`.
    """
    return pass_at_k(1, correct, drawn)


def guess_at_k(k: int, num_options: int | None) -> float:
    """Probability that one of k independent guesses among options is right, 1 - (1 - 1/m)^k.

    Args:
        k: Guesses.
        num_options: Options, m; None = it cannot be guessed, 0.

    Raises:
        ValueError: For less than one option.
    """
    if num_options is None:
        return 0.0
    if num_options < 1:
        raise ValueError(f"num_options: expected 1 or more, or None for none, got {num_options}")
    return 1.0 - (1.0 - 1.0 / num_options) ** k


def pass_curve(
    questions: Sequence[SampledQuestion], *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> list[PassAtK]:
    """pass@k for every k from 1 to n, the same questions at each, with intervals over clusters.

    Intervals are percentiles of a bootstrap that draws whole clusters, so they stay within [0, 1]
    where pass@k comes near 1. With few clusters they are somewhat narrow
    (`experiments/interval_coverage.json`). Where all draws are alike, as for k = n on an easy set,
    the estimate is `clustered_mean`'s, which says so.

    Args:
        questions: With their samples; where n differs, the curve ends at the least.
        draws: Of the bootstrap.
        seed: Of the draws.
        level: Of the intervals.

    Raises:
        ValueError: Without questions, for fewer than two draws, and as `pass_at_k` and
            `guess_at_k`.
    """
    if not questions:
        raise ValueError("pass@k: expected one question or more, got none")
    if draws < 2 or not 0.0 < level < 1.0:
        raise ValueError(
            f"pass@k: expected 2 draws or more and a level between 0 and 1, got {draws} and {level}"
        )
    for position, question in enumerate(questions):
        _check(question.drawn, question.correct, 1, f"question {position}")
    longest = min(question.drawn for question in questions)
    passed = _passed(np.array([[q.drawn, q.correct] for q in questions]), longest)
    clusters = [question.cluster for question in questions]
    means = _bootstrap(passed, cluster_index(clusters), draws, seed)
    tail = (1.0 - level) / 2.0
    lows, highs = np.quantile(means, [tail, 1.0 - tail], axis=0)
    figures = np.stack([lows, highs, means.std(axis=0, ddof=1)], axis=1).tolist()
    counts = len(questions), len(set(clusters))
    curve = []
    for k, (low, high, error) in enumerate(figures, start=1):
        column = passed[:, k - 1]
        found = (
            Estimate(float(column.mean()), low, high, error, *counts, None)
            if error > _ROUNDING
            else clustered_mean(column.tolist(), clusters, level)
        )
        curve.append(PassAtK(k, found, _mean_guess(k, questions)))
    return curve


def _mean_guess(k: int, questions: Sequence[SampledQuestion]) -> float | None:
    """Over all questions, 0 for those without options: what stands beside pass@k of all."""
    options = [question.num_options for question in questions]
    if all(num is None for num in options):
        return None
    return sum(guess_at_k(k, num) for num in options) / len(options)


def _check(drawn: int, correct: int, k: int, what: str) -> None:
    if not 0 <= correct <= drawn:
        raise ValueError(
            f"pass@k: {what} has {correct} right samples of {drawn}; expected 0 to {drawn}"
        )
    if not 1 <= k <= drawn:
        raise ValueError(
            f"pass@k: expected k between 1 and the number of samples, got k = {k} and {what} with "
            f"{drawn}; draw more samples"
        )


def _passed(
    samples: Int[ndarray, "questions 2"], longest: int
) -> Float[ndarray, "questions longest"]:
    """pass@k by question, for k from 1.

    The share of k samples that are all wrong is a product, so nothing overflows:
    C(n - c, k) / C(n, k) = Π_{i<k} (n - c - i) / (n - i).
    """
    drawn, correct = samples[:, :1], samples[:, 1:]
    before = np.arange(longest)
    wrong = np.maximum(drawn - correct - before, 0) / (drawn - before)
    return 1.0 - np.cumprod(wrong, axis=1)


def _bootstrap(
    values: Float[ndarray, "items columns"], index: Int[ndarray, "items"], draws: int, seed: int
) -> Float[ndarray, "draws columns"]:
    """Means over items of as many clusters as there are, drawn with replacement."""
    sums = cluster_sums(values, index)
    sizes = np.bincount(index).astype(float)
    rng = np.random.default_rng(seed)
    means = np.empty((draws, values.shape[1]))
    for first in range(0, draws, _DRAWS_AT_ONCE):
        part = means[first : first + _DRAWS_AT_ONCE]
        drawn = rng.integers(len(sizes), size=(len(part), len(sizes)))
        times = np.stack([np.bincount(row, minlength=len(sizes)) for row in drawn]).astype(float)
        part[:] = (times @ sums) / (times @ sizes)[:, None]
    return means
