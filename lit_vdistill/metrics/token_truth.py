"""Which parts of a response are wrong, and which of the same kind are right: truth by token.

Token credit is good where it lowers the tokens that are wrong. Whether it does can be measured on
a sample that knows its truth: `marks` judges every word, time, coordinate, letter and number of a
response that the sample can decide, `token_marks` hands the verdicts to tokens. What cannot be told
is marked unclear, so that it is left out and counted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lit_vdistill.responses.claims import Clause, clauses, matched
from lit_vdistill.responses.geometry import box_iou
from lit_vdistill.responses.grammar import (
    SPAN,
    boxes,
    parse_response,
    read_box,
    read_time,
    times,
)
from lit_vdistill.responses.tags import blocks, tags
from lit_vdistill.types import Box, Mark, Verdict, VideoSample

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_BLOCKS = ("think", "answer")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Up to where a number is right, and from where it is wrong; in between it is unclear."""

    time_right_s: float = 0.25
    time_wrong_s: float = 1.0
    box_right: float = 0.125
    """As a share of the true box's side along the coordinate's axis."""
    box_wrong: float = 0.25
    number: float = 0.01
    """Relative, of a count: the ε of R-MSD's ε-accuracy."""


def marks(text: str, sample: VideoSample, tolerance: Tolerance = Tolerance()) -> list[Mark]:
    """Judge what a response states, part by part, in the order of its characters.

    Args:
        text: The response as it was sampled. Where its envelope is invalid nothing can be told.
        sample: Its question, with facts and evidence; boxes in the units of the text.
        tolerance: How near is right.
    """
    places = {block.name: block.inner for name in _BLOCKS for block in blocks(tags(text), name)}
    found = [
        # Reasoning and answer may both name a thing, so each is matched by itself.
        *(
            mark
            for name, place in places.items()
            if not (name == "answer" and sample.task.is_read_by_word)
            for mark in _words(text, place, sample)
        ),
        *_times(text, sample, tolerance),
        *_coordinates(text, sample, tolerance),
    ]
    taken = {place for mark in found for place in range(mark.start, mark.end)}
    if "answer" in places:
        answer = sample.task.answer_marks(text, places["answer"], sample, tolerance.number)
        found += [mark for mark in answer if mark.start not in taken]
    if parse_response(text, sample.envelope).problem is not None:
        found = [replace(mark, verdict="unclear") for mark in found]
    return sorted(found, key=lambda mark: mark.start)


def token_marks(found: Sequence[Mark], spans: Sequence[tuple[int, int]]) -> list[Mark | None]:
    """The mark of each token; None for one that states nothing that was judged.

    Args:
        found: Of the whole response.
        spans: First character of each token and the one behind its last. White space before a word
            may belong to its token; a token that reaches into two marks is unclear.
    """
    given: list[Mark | None] = []
    for start, end in spans:
        touched = [mark for mark in found if mark.start < end and start < mark.end]
        if len(touched) > 1:
            touched = [replace(touched[0], verdict="unclear")]
        given.append(touched[0] if touched else None)
    return given


def _words(text: str, place: tuple[int, int], sample: VideoSample) -> Iterator[Mark]:
    """Words of the facts' kinds, clause by clause."""
    things, asked, first = sample.facts.things, sample.question.lower(), place[0]
    said = clauses(text[slice(*place)], sample.facts)
    about = matched(said, things)
    taken = set(about)
    for clause, mine in zip(said, about, strict=True):
        rivals = _rivals(clause, mine, taken, things)
        for claim in clause.claims:
            verdicts = {things[t].get(claim.kind) == claim.value for t in rivals}
            # What the question names may be repeated by an answer that denies it.
            is_repeated = not rivals and claim.value.lower() in asked
            known = {claim.kind in things[t] for t in rivals} or {True}
            if is_repeated or len(verdicts) > 1 or known != {True}:
                verdict: Verdict = "unclear"
            else:
                verdict = "right" if verdicts == {True} else "wrong"
            yield Mark(first + claim.start, first + claim.end, claim.kind, verdict)


def _rivals(
    clause: Clause,
    mine: int | None,
    taken: set[int | None],
    things: Sequence[Mapping[str, str]],
) -> list[int]:
    """All things that a clause may be about; none where it fits nothing that is there."""
    fits = {t: clause.agreement(thing) for t, thing in enumerate(things)}
    if mine is None:
        return [t for t, agreement in fits.items() if agreement]
    equal = [t for t, agreement in fits.items() if agreement == fits[mine] and t not in taken]
    return [mine, *equal]


def _times(text: str, sample: VideoSample, tolerance: Tolerance) -> Iterator[Mark]:
    """Seconds: those of a segment, and those at which a box was seen."""
    spans = sample.evidence.spans
    moments = list(sample.evidence.moments)
    truths: dict[int, list[float]] = {}
    for pair in SPAN.finditer(text):
        truths[pair.start(1)] = [start for start, _ in spans]
        truths[pair.start(2)] = [end for _, end in spans]
    for time in times(text):
        if not time.within(text):
            continue  # no character that could be right or wrong
        if text.endswith("at", 0, time.start):
            truths[time.inner[0]] = moments
        nearest = _nearest(time.within(text), truths.get(time.inner[0], []))
        verdict = _verdict(nearest, tolerance.time_right_s, tolerance.time_wrong_s)
        yield Mark(*time.inner, "time", verdict)


def _coordinates(text: str, sample: VideoSample, tolerance: Tolerance) -> Iterator[Mark]:
    """Corners of boxes, against the true box that is met best."""
    truths = [found.box for found in sample.evidence.boxes]
    for box in boxes(text):
        numbers = list(_NUMBER.finditer(text, *box.inner))
        truth = _best(read_box(box.within(text)), truths)
        for axis, number in enumerate(numbers):
            gap = None
            if truth is not None:
                side = truth[2 + axis % 2] - truth[axis % 2]
                gap = abs(float(number.group()) - truth[axis]) / side
            verdict = _verdict(gap, tolerance.box_right, tolerance.box_wrong)
            yield Mark(number.start(), number.end(), "coordinate", verdict)


def _best(said: Box | None, truths: Sequence[Box]) -> Box | None:
    if said is None or not truths:
        return None
    return max(truths, key=lambda truth: box_iou(said, truth))


def _nearest(said: str, truths: Sequence[float]) -> float | None:
    """How far a time is from the nearest true one; None where there is none, or it is no number."""
    seconds = read_time(said)
    if not truths or seconds is None:
        return None
    return min(abs(seconds - truth) for truth in truths)


def _verdict(gap: float | None, right: float, wrong: float) -> Verdict:
    if gap is None or right < gap < wrong:
        return "unclear"
    return "right" if gap <= right else "wrong"
