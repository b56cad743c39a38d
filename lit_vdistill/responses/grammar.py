"""The one parser of responses, shared by training, pool quality and evaluation.

A response is `<think>…</think>` followed by `<answer>…</answer>`. Inside, times are
`<t>3.0</t>s`, boxes `<box>[x1,y1,x2,y2]</box>`, and a grounded mention is
`<obj>NAME</obj><box>[…]</box>at<t>3.0</t>s` without white space between its parts. Nothing here
raises on model text: what cannot be read is None and scores 0.
"""

import json
import math
import re
from dataclasses import dataclass

from lit_vdistill.types import Box, Rollout, Span

_END_MARKERS = re.compile(r"<\|im_end\|>|<\|endoftext\|>|</s>")
_THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_ENVELOPE = re.compile(r"\s*<think>.*?</think>\s*<answer>.*?</answer>\s*", re.DOTALL)
_NUMBER = r"\d+(?:\.\d*)?"
SPAN = re.compile(rf"<t>({_NUMBER})</t>s?\s+to\s+<t>({_NUMBER})</t>")
"""A segment of the video; the `s` behind a time may be missing, a sign may not stand."""
_TIME = re.compile(r"<t>(.*?)</t>s", re.DOTALL)
BOX = re.compile(r"<box>(.*?)</box>", re.DOTALL)
"""A box with whatever stands in it."""
_MENTION = re.compile(r"<obj>(.*?)</obj>((?:<box>\[.*?\]</box>)+)at<t>(.*?)</t>s", re.DOTALL)
OPTION_MARKER = "Correct Option:"
"""What stands before the letter of a temporal multiple-choice answer."""
_OPTION = re.compile(r"([A-Z])\.?|\(([A-Z])\)|\[([A-Z])\]")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A response taken apart."""

    think: str
    """Inside of the first think block, "" when there is none."""
    answer: str
    """Inside of the last complete answer block, stripped; "" when there is none."""
    problem: str | None
    """Why the envelope is invalid, a short cause to be counted; None when it is valid."""
    rollout: Rollout | None = None
    """The tokens that it was sampled as, with text and truncation; None for a teacher's text."""


@dataclass(frozen=True, slots=True)
class GroundedMention:
    """An object that a response claims to see in a place at a time."""

    name: str
    boxes: tuple[Box, ...]
    time_s: float


def parse_response(text: str) -> ParsedResponse:
    """Take a response apart; what follows an end-of-sequence marker is ignored.

    The envelope is valid when exactly one think block is followed by exactly one answer block with
    nothing but white space around them: repeated tags and text outside are how a policy games a
    laxer check.
    """
    text = _END_MARKERS.split(text, maxsplit=1)[0]
    think = _THINK.search(text)
    answers = _ANSWER.findall(text)
    return ParsedResponse(
        think=think.group(1) if think else "",
        answer=answers[-1].strip() if answers else "",
        problem=_envelope_problem(text, bool(think), bool(answers)),
    )


def _envelope_problem(text: str, has_think: bool, has_answer: bool) -> str | None:
    if any(text.count(tag) > 1 for tag in _TAGS):
        return "repeated_tags"
    if not has_think:
        return "no_think"
    if not has_answer:
        return "no_answer"
    if not _ENVELOPE.fullmatch(text):
        return "text_outside"
    return None


def option_letter(text: str) -> str | None:
    """The letter of `X`, `X.`, `(X)` or `[X]`, in capitals and alone; else None."""
    match = _OPTION.fullmatch(text.strip())
    return next(group for group in match.groups() if group) if match else None


def correct_option(answer: str) -> str | None:
    """The letter after `Correct Option:` in a temporal multiple-choice answer."""
    _, marker, rest = answer.partition(OPTION_MARKER)
    return option_letter(rest) if marker else None


def time_span(text: str) -> Span | None:
    """The first `<t>a</t>s to <t>b</t>s` as seconds; the `s` may be missing, a sign may not stand.

    R-MSD writes the pattern without `s`, Open-o3-Video with it.
    """
    match = SPAN.search(text)
    return (float(match.group(1)), float(match.group(2))) if match else None


def first_box(text: str) -> Box | None:
    """The first `<box>[x1,y1,x2,y2]</box>`; None unless it holds four finite numbers."""
    match = BOX.search(text)
    return _read_box(match.group(1)) if match else None


def all_boxes(text: str) -> tuple[Box, ...]:
    """Every `<box>[x1,y1,x2,y2]</box>`; one that cannot be read is passed over."""
    return tuple(box for raw in BOX.findall(text) if (box := _read_box(raw)))


def number(text: str) -> float | None:
    """The value of a text that is one plain decimal number; else None."""
    match = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text.strip())
    return float(match.group()) if match else None


def yes_or_no(text: str) -> str | None:
    """`"yes"` or `"no"`, whatever the case and with or without a final period; else None."""
    word = text.strip().removesuffix(".").lower()
    return word if word in ("yes", "no") else None


def mentioned_times(think: str) -> tuple[float, ...]:
    """Every `<t>x</t>s` of a reasoning, in seconds; empty when one of them is not a number."""
    values = [_read_time(raw) for raw in _TIME.findall(think)]
    return () if None in values else tuple(value for value in values if value is not None)


def grounded_mentions(think: str) -> tuple[GroundedMention, ...]:
    """Every well-formed `<obj>…</obj><box>…</box>at<t>…</t>s`; a malformed one is passed over."""
    mentions = []
    for name, raw_boxes, raw_time in _MENTION.findall(think):
        boxes = [_read_box(raw) for raw in BOX.findall(raw_boxes)]
        time_s = _read_time(raw_time)
        if time_s is not None and None not in boxes:
            mentions.append(GroundedMention(name, tuple(box for box in boxes if box), time_s))
    return tuple(mentions)


def _read_box(raw: str) -> Box | None:
    try:
        values = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(values, list) or len(values) != 4:
        return None
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        return None
    x1, y1, x2, y2 = map(float, values)
    return (x1, y1, x2, y2)


def _read_time(raw: str) -> float | None:
    return float(raw) if re.fullmatch(_NUMBER, raw) else None
