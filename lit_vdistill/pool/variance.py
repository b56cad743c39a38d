"""How far a teacher's responses differ, between questions and within them (R-MSD §4.4)."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lit_vdistill.metrics.pass_at_k import guess_at_k, pass_at_k
from lit_vdistill.pool.quality import lexical_quality
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import graded_quality
from lit_vdistill.types import Task, TeacherResponse, VideoSample

REPORTED: Mapping[str, Mapping[str, float]] = {
    "all": {"mean": 0.75, "across": 0.22, "malformed": 0.01},
    "mcq": {"mean": 0.96, "across": 0.10, "within": 0.07},
    "spatial_grounding": {"mean": 0.64, "across": 0.24, "within": 0.15},
    "ocr": {"lowest": 0.50, "highest": 0.85},
    "numerical": {"lowest": 0.65, "highest": 1.00},
    "temporal": {"malformed": 0.10},
}
"""R-MSD §4.4, of 200 responses of Qwen3-VL-235B. Its visual QA stands beside our boxes, its
temporal QA beside both temporal tasks."""
COLUMNS = ("mean", "across", "within", "lowest", "highest", "malformed")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
"""τ of which the retention is told; R-MSD Table 4 has 72 % at 0.3."""
SUCCESS = 0.5
"""Worth from which on a response counts for pass@k: right letters have 1, segments a tIoU."""
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Worth:
    """What a response is worth to its question."""

    quality: float
    """q of closed-ended tasks; of open-ended ones the share of facts that it states, where facts
    are known, else its ROUGE F1 with the annotated answer."""
    is_malformed: bool
    output_tokens: float | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One question with what its responses are worth, in the order of the pool."""

    sample: VideoSample
    pool: tuple[Worth, ...]

    @property
    def qualities(self) -> list[float]:
        """Of all of its responses."""
        return [worth.quality for worth in self.pool]

    @property
    def num_options(self) -> int | None:
        """What a guess chooses from; None where there are no options."""
        if self.sample.task == Task.BINARY:
            return 2
        return len(self.sample.options) or None


def worth_of(sample: VideoSample, response: TeacherResponse) -> Worth:
    """What a response is worth; the sample's boxes in the units of the text."""
    has_measure = sample.task.is_closed_ended or sample.facts.asked
    measure = graded_quality if has_measure else lexical_quality
    call = response.call
    return Worth(
        measure(response.text, sample),
        parse_response(response.text, sample.envelope).problem is not None,
        None if call is None else call.output_tokens,
        None if call is None else call.cost,
    )


def by_task(questions: Iterable[Question]) -> dict[str, list[Question]]:
    """Questions of all tasks, of each, and of those that are answered with a segment."""
    found: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        task = question.sample.task
        for name in ("all", str(task), *(["temporal"] if task.answers_span else [])):
            found[name].append(question)
    return dict(found)


def spread(questions: Sequence[Question]) -> Figures:
    """Mean quality and how it varies.

    `across` is the standard deviation over questions of their mean quality, `within` the mean over
    questions of that of their responses, `lowest` and `highest` the means of each question's worst
    and best response, `malformed` the share of responses without a valid envelope.
    """
    qualities = [question.qualities for question in questions]
    means = [statistics.mean(found) for found in qualities]
    return {
        "questions": float(len(questions)),
        "responses": float(sum(map(len, qualities))),
        "mean": statistics.mean(means),
        "across": statistics.pstdev(means),
        "within": statistics.mean(statistics.pstdev(found) for found in qualities),
        "lowest": statistics.mean(min(found) for found in qualities),
        "highest": statistics.mean(max(found) for found in qualities),
        "malformed": statistics.mean(w.is_malformed for q in questions for w in q.pool),
    }


def retention(questions: Sequence[Question]) -> dict[float, float]:
    """By τ, the share of responses to closed-ended questions that pass (R-MSD Table 4)."""
    found = [q for question in questions if question.sample.task.is_closed_ended
             for q in question.qualities]  # fmt: skip
    return {t: sum(q >= t for q in found) / len(found) for t in THRESHOLDS} if found else {}


def pass_curve(questions: Sequence[Question]) -> dict[int, tuple[float, float]]:
    """By k, pass@k of closed-ended questions and what guessing would have.

    A task without options cannot be guessed. All questions that have k responses count.
    """
    asked = [question for question in questions if question.sample.task.is_closed_ended]
    longest = max((len(question.pool) for question in asked), default=0)
    found = {}
    for k in range(1, longest + 1):
        able = [question for question in asked if len(question.pool) >= k]
        passed = [
            pass_at_k(k, sum(q >= SUCCESS for q in question.qualities), len(question.pool))
            for question in able
        ]
        guessed = [guess_at_k(k, question.num_options) for question in able]
        found[k] = (statistics.mean(passed), statistics.mean(guessed))
    return found


def best_of(k: int, qualities: Sequence[float]) -> float:
    """Mean of the best among k responses, over all choices of k."""
    ordered, count = sorted(qualities), math.comb(len(qualities), k)
    return sum(q * math.comb(i, k - 1) for i, q in enumerate(ordered)) / count


def price_of_more(questions: Sequence[Question]) -> dict[int, Figures]:
    """By K, what a pool of K responses costs and what its best one is worth (R-MSD §3.6).

    `best`: worth of the best of K, over questions that have as many; `output_tokens` and `cost`: of
    K responses to one of them, missing where no server has said.
    """
    longest = max((len(question.pool) for question in questions), default=0)
    found = {}
    for k in range(1, longest + 1):
        able = [question for question in questions if len(question.pool) >= k]
        row = {"questions": float(len(able))}
        row["best"] = statistics.mean(best_of(k, question.qualities) for question in able)
        for name in ("output_tokens", "cost"):
            each = [getattr(worth, name) for question in able for worth in question.pool]
            known = [value for value in each if value is not None]
            if len(known) == len(each):
                row[name] = k * statistics.mean(known)
        found[k] = row
    return found
