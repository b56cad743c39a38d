"""Quality-weighted matching of rollouts to teacher responses (R-MSD §3.3.3, Eqs. 3-4)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal


@dataclass(frozen=True)
class MatchingConfig:
    """How rollouts are paired with teacher responses."""

    mode: Literal["quality", "uniform"] = "quality"
    """`quality`: p_k in proportion to q_k (Eq. 4). `uniform`: equal among those that pass."""
    threshold: float = 0.3
    """τ: responses with q_k below it are never drawn; 0 filters nothing (Table 3, A and B)."""
    open_ended: Literal["uniform", "lexical", "agreement"] = "uniform"
    """Open-ended tasks: `uniform` whatever their q (§3.3.2). Else filtered and matched as
    closed-ended ones are: `lexical` by overlap with the annotated answer (Table 5), `agreement` by
    overlap with the rest of the pool, which needs no annotation (§5, future work)."""
    pool_size: int | None = None
    """Use the first K responses of each pool only; None uses all."""
    pool_size_if_unequal: int | None = None
    """K where the first `pool_size` responses differ in quality: a teacher is asked again only
    where it contradicts itself. None: everywhere the same. Open-ended ones never differ (§3.3.2)
    unless `open_ended` gives them qualities."""
    empty_pool: Literal["skip", "uniform"] = "skip"
    """When no response can be drawn, where Eq. 4 is 0/0. `skip`: no discriminator pair and no
    discriminator reward for the prompt. `uniform`: draw from all responses after all."""

    def __post_init__(self) -> None:
        """Refuse a second K that is not above the first.

        Raises:
            ValueError: Names both keys.
        """
        more = self.pool_size_if_unequal
        if more is not None and (self.pool_size is None or more <= self.pool_size):
            raise ValueError(
                f"matching.pool_size_if_unequal {more}: expected more than matching.pool_size "
                f"{self.pool_size}, which must be given"
            )

    @property
    def largest_pool(self) -> int | None:
        """Responses that a prompt may need at the most; None for all that there are."""
        return self.pool_size_if_unequal or self.pool_size


def asks_again(qualities: Sequence[float], config: MatchingConfig) -> bool:
    """Whether a prompt is worth `pool_size_if_unequal` responses.

    Args:
        qualities: Of its first `pool_size` responses.
        config: Both sizes.
    """
    return config.pool_size_if_unequal is not None and len(set(qualities)) > 1


def matching_distribution(
    qualities: Sequence[float], is_closed_ended: bool, config: MatchingConfig
) -> tuple[float, ...] | None:
    """The probabilities p_1 … p_K of Eq. 4, summing to 1; None when the prompt is to be skipped.

    Args:
        qualities: q_1 … q_K of Eq. 2, each in [0, 1].
        is_closed_ended: Open-ended tasks match uniformly whatever their q (§3.3.2), unless asked
            to be matched by other scores, which `qualities` then are.
        config: Mode, threshold τ and the policy for a pool in which nothing passes.

    `mode="uniform"` gives 1/K' to each of the K' responses that pass the filter: the paper's
    ablation "filter without weight" (Table 3, C), where the paper does not say what is drawn. With
    `threshold=0` all pass, wrong ones too: a baseline without filter knows no truth (Table 3, B).
    """
    if not qualities:
        return None
    everyone = (1.0 / len(qualities),) * len(qualities)
    if not is_closed_ended and config.open_ended == "uniform":
        return everyone
    by_quality = config.mode == "quality"
    weights = [(q if by_quality else 1.0) if q >= config.threshold else 0.0 for q in qualities]
    total = sum(weights)
    if not total:
        return None if config.empty_pool == "skip" else everyone
    return tuple(weight / total for weight in weights)


def draw_match(
    probabilities: Sequence[float], *, seed: int, sample_id: str, rollout: int, step: int
) -> int:
    """m(i) of Eq. 3: an index drawn from the matching distribution.

    A function of its arguments alone, so that a resumed run draws what an uninterrupted one draws.
    """
    point = uniform(seed, "match", sample_id, rollout, step) * sum(probabilities)
    for index, reached in enumerate(accumulate(probabilities)):
        if point < reached:
            return index
    return max(index for index, p in enumerate(probabilities) if p > 0)


def uniform(*key: str | int) -> float:
    """A number in [0, 1) that depends on its key alone, whatever the platform and process."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
