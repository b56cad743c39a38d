"""A judge made of rules: the embedded default, and no model.

It writes what a model is asked for in `judge/prompt.py`, from the verifier's parts: the answer's
diagnosis, whether the reasoning supports it, and the single most likely cause.
"""

from collections.abc import Mapping, Sequence

from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.responses.grammar import ParsedResponse, parse_response

_RIGHT, _PARTLY = 0.9, 0.3
_ANSWER_PARTS = ("answer", "answer_time", "answer_box")
_WHERE = {"answer": "the answer", "answer_time": "the time span", "answer_box": "the box"}
_CAUSES = {
    "think_segment": "The reasoning looks at the wrong time.",
    "think_point": "The reasoning looks at the wrong time.",
    "think_space": "The reasoning looks at the wrong place.",
}


class RuleJudge:
    """Feedback of two to four sentences from the verifier's rewards; deterministic."""

    identity = "rules 1"
    """Counts up when a rule or a word changes."""

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """See `Judge`; never fails."""
        return [_feedback(parse_response(case.text), case.parts, case.maxima) for case in cases]


def _feedback(
    response: ParsedResponse, parts: Mapping[str, float], maxima: Mapping[str, float]
) -> str:
    if not response.answer:
        return (
            "No final answer was produced. The reasoning may have been too long and cut off. "
            "The response is incomplete."
        )
    shares = {name: parts[name] / most for name, most in maxima.items() if most > 0}
    answered = {name: shares[name] for name in _ANSWER_PARTS if name in shares}
    reasoned = {name: shares[name] for name in _CAUSES if name in shares}
    worst = min(answered, key=lambda name: answered[name], default=None)
    if worst is None or answered[worst] >= _RIGHT:
        if all(share >= _PARTLY for share in reasoned.values()):
            return "The final answer is correct and the reasoning supports it."
        weakest = min(reasoned, key=lambda name: reasoned[name])
        return (
            f"The final answer is correct, but the reasoning hardly supports it. {_CAUSES[weakest]}"
        )
    degree = "partly correct" if max(answered.values()) >= _PARTLY else "wrong"
    sentences = [f"The final answer is {degree}: {_WHERE[worst]} is off."]
    return " ".join([*sentences, _cause(reasoned)])


def _cause(reasoned: Mapping[str, float]) -> str:
    """One cause, the most likely: where the reasoning fails first, else the answer itself."""
    if not reasoned:
        return "The reasoning is too broad to support so specific an answer."
    weakest = min(reasoned, key=lambda name: reasoned[name])
    if reasoned[weakest] < _PARTLY:
        return _CAUSES[weakest]
    return "The reasoning is mostly on the right track, but the answer drifts from it."
