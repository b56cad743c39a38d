"""A judge made of rules: the embedded default, and no model.

It writes what a model is asked for in `judge/prompt.py`: how right the answer is, which of its
values are off and by how much, and what in the reasoning most likely led there. How right comes
from the verifier's parts, values from the response itself. What is wrong is told by what is right
or by how far it is off, and never repeated: a small network finds more probable what it has read.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.responses import grammar
from lit_vdistill.responses.geometry import box_iou
from lit_vdistill.responses.grammar import ParsedResponse
from lit_vdistill.types import Box, BoxAt, VideoSample

_RIGHT, _PARTLY = 0.9, 0.3
_NEAR_S = 0.05
"""Times are written to two digits; nearer than this is the same."""
_NEAR_EDGE = 0.5
"""Boxes are written in whole units."""
_EDGES = (
    ("left edge", "too far left", "too far right"),
    ("top", "too high", "too low"),
    ("right edge", "too far left", "too far right"),
    ("bottom", "too high", "too low"),
)
_WORDS_SHOWN = 6


class RuleJudge:
    """Feedback of one to four sentences from the verifier's rewards; deterministic."""

    identity = "rules 2"
    """Counts up when a rule or a word changes."""

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """See `Judge`; never fails."""
        return [_feedback(case) for case in cases]


def _feedback(case: JudgeCase) -> str:
    response = grammar.parse_response(case.text, case.sample.envelope)
    if not response.answer:
        return (
            "No final answer was produced. The reasoning may have been too long and cut off. "
            "The response is incomplete."
        )
    shares = {name: case.parts[name] / most for name, most in case.maxima.items() if most > 0}
    answered = {name: shares[name] for name in _OF_ANSWER if name in shares}
    reasoned = {name: shares[name] for name in _OF_REASONING if name in shares}
    weakest = min(reasoned, key=lambda name: reasoned[name], default=None)
    is_weak = weakest is not None and reasoned[weakest] < _PARTLY
    why = [_OF_REASONING[weakest](response, case.sample)] if weakest and is_weak else []
    if min(answered.values(), default=1.0) >= _RIGHT:
        verdict = "but the reasoning hardly supports it" if why else "and the reasoning supports it"
        return " ".join([f"The final answer is correct, {verdict}.", *why])
    degree = "partly correct" if max(answered.values()) >= _PARTLY else "wrong"
    off = [name for name in answered if answered[name] < _RIGHT]
    what = [_OF_ANSWER[name](response, case.sample) for name in off]
    if reasoned and not why:
        why = ["The reasoning is mostly on the right track, but the answer drifts from it."]
    return " ".join([f"The final answer is {degree}.", *what, *why])


def _words_off(response: ParsedResponse, sample: VideoSample) -> str:
    """The letter, number or word that it should be; of a free answer the words that are missing."""
    if sample.task.is_closed_ended:
        kind = "option" if sample.options else "answer"
        return f"The {kind} should be {sample.answer}."
    said, true = _words(response.answer), _words(sample.answer)
    missing = [word for word in true if word not in said][:_WORDS_SHOWN]
    excess = sum(word not in true for word in said)
    found = [f"Missing: {', '.join(missing)}."] if missing else []
    found += [f"Words that do not belong: {excess}."] if excess else []
    return " ".join(found) or "The words are right, but not their order."


def _span_off(response: ParsedResponse, sample: VideoSample) -> str:
    said = grammar.time_span(response.answer)
    if said is None:
        return "It names no time span."
    start, end = (
        _gap_s(at - true) for at, true in zip(said, sample.evidence.spans[0], strict=True)
    )
    return f"The start is {start}, the end is {end}."


def _gap_s(late_s: float) -> str:
    if abs(late_s) < _NEAR_S:
        return "right"
    return f"{abs(late_s):.1f} s too {'late' if late_s > 0 else 'early'}"


def _answered_box_off(response: ParsedResponse, sample: VideoSample) -> str:
    said = grammar.first_box(response.answer)
    if said is None:
        return "It names no box."
    return f"The box {_gaps(said, sample.evidence.boxes[0].box)}."


def _gaps(said: Box, true: Box) -> str:
    """How far each edge is off, in the units of the text."""
    found = []
    for (edge, less, more), value, truth in zip(_EDGES, said, true, strict=True):
        off = value - truth
        if abs(off) > _NEAR_EDGE:
            found.append(f"{edge} {abs(off):.0f} {more if off > 0 else less}")
    return "is off: " + ", ".join(found) if found else "is right"


def _segment_off(response: ParsedResponse, sample: VideoSample) -> str:
    start, end = sample.evidence.spans[0]
    times = grammar.mentioned_times(response.think)
    gaps = [min(time - start, 0.0) + max(time - end, 0.0) for time in times]
    if not gaps:
        return "The reasoning names no time."
    return f"The reasoning looks {_gap_s(max(gaps, key=abs))}."


def _point_off(response: ParsedResponse, sample: VideoSample) -> str:
    times = grammar.mentioned_times(response.think)
    if not times:
        return "The reasoning names no time."
    gaps = (min((time - key for key in sample.evidence.moments), key=abs) for time in times)
    return f"The reasoning looks {_gap_s(max(gaps, key=abs))}."


def _place_off(response: ParsedResponse, sample: VideoSample) -> str:
    """The box of the reasoning that is met worst, against the true one that it meets best."""
    boxes = grammar.all_boxes(response.think)
    if not boxes:
        return "The reasoning names no box."

    def nearest(said: Box) -> BoxAt:
        return max(sample.evidence.boxes, key=lambda found: box_iou(said, found.box))

    worst = min(boxes, key=lambda said: box_iou(said, nearest(said).box))
    return f"The box of the reasoning {_gaps(worst, nearest(worst).box)}."


def _words(text: str) -> list[str]:
    """The words of a text, each once."""
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


_Off = Callable[[ParsedResponse, VideoSample], str]
"""Says which values of a part are off."""
_OF_ANSWER: Mapping[str, _Off] = {
    "answer": _words_off,
    "answer_time": _span_off,
    "answer_box": _answered_box_off,
}
_OF_REASONING: Mapping[str, _Off] = {
    "think_segment": _segment_off,
    "think_point": _point_off,
    "think_space": _place_off,
}
