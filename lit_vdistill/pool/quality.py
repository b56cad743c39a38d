"""Quality of responses: a teacher's (R-MSD §3.3.1–3.3.2), and a student's to held-out questions."""

from collections.abc import Iterable

from lit_vdistill.pool.matching import uniform
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards.content import answer_quality
from lit_vdistill.rewards.facts import count_facts
from lit_vdistill.rewards.verifier import rouge_f1
from lit_vdistill.types import ScoredResponse, TeacherResponse, VideoSample

OPEN_ENDED_QUALITY = 1.0
"""q of an open-ended response: Eq. 7 uses q, §3.3.2 leaves it open; 1 gives all the same weight."""
FACT_SHARES = ("facts", "facts_wrong", "facts_missing")
"""What has become of the facts that an open answer had to state, as parts of 1."""


def score_responses(
    sample: VideoSample, responses: Iterable[TeacherResponse]
) -> tuple[ScoredResponse, ...]:
    """The pool of one sample with its qualities q_k (R-MSD Eq. 2).

    Args:
        sample: The sample, its boxes in the units that the responses write.
        responses: Its teacher responses.
    """
    return tuple(
        ScoredResponse(
            response,
            answer_quality(parse_response(response.text, sample.envelope), sample)
            if sample.task.is_closed_ended
            else OPEN_ENDED_QUALITY,
        )
        for response in responses
    )


def lexical_quality(text: str, sample: VideoSample) -> float:
    """Mean ROUGE-1/2/L F1 of an open-ended response with the annotated answer, in [0, 1].

    0 in an invalid envelope. R-MSD keeps it out of training (§3.3.2) and shows what it would do
    (Table 5).
    """
    parsed = parse_response(text, sample.envelope)
    return rouge_f1(parsed.answer, sample.answer) if parsed.problem is None else 0.0


def best_response(
    sample: VideoSample, pool: tuple[ScoredResponse, ...], seed: int
) -> ScoredResponse:
    """The stage-1 target T_best (R-MSD §3.4, Eq. 5).

    Closed-ended: the highest q, the first of equals. Open-ended: one at random, seeded by the
    sample, so that every epoch sees the same target.

    Raises:
        ValueError: For an empty pool.
    """
    if not pool:
        raise ValueError(f"sample {sample.id}: no teacher response, stage 1 needs at least one")
    if sample.task.is_closed_ended:
        return max(pool, key=lambda scored: scored.quality)
    return pool[int(uniform(seed, "best", sample.id) * len(pool))]


def greedy_scores(text: str, sample: VideoSample) -> dict[str, float]:
    """What a greedy answer is worth, by the names in the report."""
    parsed = parse_response(text, sample.envelope)
    worth = {"score": answer_score(text, sample), "format_rate": float(parsed.problem is None)}
    if sample.facts.asked:
        counts = count_facts(parsed.answer if parsed.problem is None else "", sample.facts)
        worth |= dict(zip(FACT_SHARES, counts.shares, strict=True))
    return worth


def answer_score(text: str, sample: VideoSample) -> float:
    """How good one response is, in [0, 1]: task metric, or mean ROUGE F1 for open-ended tasks."""
    if sample.task.is_closed_ended:
        return answer_quality(parse_response(text, sample.envelope), sample)
    return lexical_quality(text, sample)
