"""How far the responses of a pool agree, and what follows from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

from lit_vdistill.pool.scoring import PoolScorer
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards.verifier import rouge_f1
from lit_vdistill.types import TeacherResponse, VideoSample

Similarity = Callable[[str, str], float]
"""How far two answers say the same, in [0, 1]: by words, by an embedding, by a rater."""


def agreements(answers: Sequence[str], similarity: Similarity) -> list[float]:
    """How far each answer agrees with the others of its pool, averaged over them; alone 1."""
    if len(answers) < 2:
        return [1.0] * len(answers)
    return [
        mean(similarity(answer, other) for j, other in enumerate(answers) if j != i)
        for i, answer in enumerate(answers)
    ]


def answers_of(sample: VideoSample, pool: Sequence[TeacherResponse]) -> list[str]:
    """The answers of a pool's responses; empty where one has no valid envelope."""
    parsed = [parse_response(response.text, sample.envelope) for response in pool]
    return [found.answer if found.problem is None else "" for found in parsed]


@dataclass(frozen=True)
class AdaptiveConfig:
    """More responses where the first ones disagree (R-MSD §5, future work)."""

    most: int = 8
    """Responses a sample at the most."""
    spread: float = 0.2
    """Ask for one more while a sample's best and worst differ by more than it: in q, of open-ended
    responses in how far one agrees with the others (ROUGE F1)."""
    extra: int | None = None
    """Responses beyond `pool_size` of all samples together; null is no limit."""


class Disagreement:
    """Whether one more response of a sample is worth a call."""

    def __init__(self, config: AdaptiveConfig, scorer: PoolScorer) -> None:
        """Set up.

        Args:
            config: From when on, and how often.
            scorer: Knows q.
        """
        self.config, self.scorer = config, scorer

    def __call__(self, sample: VideoSample, known: Sequence[TeacherResponse]) -> bool:
        """By the responses that a sample has."""
        if len(known) >= self.config.most:
            return False
        if sample.task.is_closed_ended:
            worth = [scored.quality for scored in self.scorer.scored(sample, known)]
        else:
            worth = agreements(answers_of(sample, known), rouge_f1)
        return max(worth) - min(worth) > self.config.spread
