"""The one parser of responses, shared by training, pool quality and evaluation.

A response is `<think>…</think>` followed by `<answer>…</answer>`. Inside, times are
`<t>3.0</t>s`, boxes `<box>[x1,y1,x2,y2]</box>`, and a grounded mention is
`<obj>NAME</obj><box>[…]</box>at<t>3.0</t>s` without white space between its parts. Nothing here
raises on model text: what cannot be read is None and scores 0.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lit_vdistill.responses.tags import Element, Tag, blocks, leaves, tags
from lit_vdistill.types import Box, Envelope, Rollout, Span

_END_MARKERS = re.compile(r"<\|im_end\|>|<\|endoftext\|>|</s>")
# Western digits, and no more of them than a video or a frame has use for: sums, squares and
# products of what is read stay finite.
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{0,20})?"
SPAN = re.compile(rf"<t>({_NUMBER})</t>s?\s+to\s+<t>({_NUMBER})</t>")
"""A segment of the video; the `s` behind a time may be missing, a sign may not stand."""
_TIME = re.compile(_NUMBER)
_DIGITS = re.compile(r"[0-9.]+")
_PLAIN_NUMBER = re.compile(rf"[+-]?(?:{_NUMBER}|\.[0-9]{{1,20}})")
_CORNER = rf"\s*(-?{_NUMBER})\s*"
_CORNERS = re.compile(rf"\s*\[{_CORNER},{_CORNER},{_CORNER},{_CORNER}\]\s*")
OPTION_MARKER = "Correct Option:"
"""What stands before the letter of a temporal multiple-choice answer."""
_OPTION = re.compile(r"([A-Z])\.?|\(([A-Z])\)|\[([A-Z])\]")
_ENVELOPE = ("think", "answer")


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A response taken apart."""

    think: str
    """Inside of the first think block, "" when there is none."""
    answer: str
    """Inside of the answer block that counts, stripped; "" when there is none."""
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


def parse_response(text: str, envelope: Envelope = "strict") -> ParsedResponse:
    """Take a response apart; what follows an end-of-sequence marker is ignored.

    Args:
        text: The response.
        envelope: `strict`: exactly one think block, followed by exactly one answer block, with
            nothing but white space around them, as repeated tags and text outside are how a policy
            games a laxer check; of several answers the last counts. `lenient`: as VISD's release,
            both blocks are there and their tags are opened as often as closed, whatever their
            number and order and whatever stands around them; the first answer counts.
    """
    text = until_end(text)
    among = tags(text)
    thinks, answers = blocks(among, "think"), blocks(among, "answer")
    rules = _ENVELOPES[envelope]
    return ParsedResponse(
        think=thinks[0].within(text) if thinks else "",
        answer=answers[rules.answer].within(text).strip() if answers else "",
        problem=rules.problem(text, among, thinks, answers),
    )


def _strict_problem(
    text: str, among: Sequence[Tag], thinks: list[Element], answers: list[Element]
) -> str | None:
    outer = _outer(among)
    if len(set(outer)) < len(outer):
        return "repeated_tags"
    if missing := _missing(thinks, answers):
        return missing
    (think,), (answer,) = thinks, answers
    between = text[think.end : answer.start]
    is_alone = not (text[: think.start] + between + text[answer.end :]).strip()
    return None if think.end <= answer.start and is_alone else "text_outside"


def _lenient_problem(
    text: str, among: Sequence[Tag], thinks: list[Element], answers: list[Element]
) -> str | None:
    if missing := _missing(thinks, answers):
        return missing
    outer = _outer(among)
    is_balanced = all(outer.count((n, False)) == outer.count((n, True)) for n in _ENVELOPE)
    return None if is_balanced else "unbalanced_tags"


def _outer(among: Sequence[Tag]) -> list[tuple[str, bool]]:
    return [(tag.name, tag.is_closing) for tag in among if tag.name in _ENVELOPE]


def _missing(thinks: list[Element], answers: list[Element]) -> str | None:
    if not thinks:
        return "no_think"
    return None if answers else "no_answer"


@dataclass(frozen=True, slots=True)
class _EnvelopeRules:
    """What a valid envelope is, and which of several answers counts."""

    answer: int
    problem: Callable[[str, Sequence[Tag], list[Element], list[Element]], str | None]


_ENVELOPES: dict[Envelope, _EnvelopeRules] = {
    "strict": _EnvelopeRules(-1, _strict_problem),
    "lenient": _EnvelopeRules(0, _lenient_problem),
}


def until_end(text: str) -> str:
    """What stands before the first end-of-sequence marker."""
    return _END_MARKERS.split(text, maxsplit=1)[0]


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


def boxes(text: str) -> list[Element]:
    """Every `<box>…</box>` with whatever stands in it."""
    return [found for found in leaves(tags(text)) if found.name == "box"]


def first_box(text: str) -> Box | None:
    """The first `<box>[x1,y1,x2,y2]</box>`; None unless it holds four numbers."""
    return next((read_box(found.within(text)) for found in boxes(text)), None)


def all_boxes(text: str) -> tuple[Box, ...]:
    """Every `<box>[x1,y1,x2,y2]</box>`; one that cannot be read is passed over."""
    return tuple(box for found in boxes(text) if (box := read_box(found.within(text))))


def number(text: str) -> float | None:
    """The value of a text that is one plain decimal number; else None."""
    match = _PLAIN_NUMBER.fullmatch(text.strip())
    return float(match.group()) if match else None


def yes_or_no(text: str) -> str | None:
    """`"yes"` or `"no"`, whatever the case and with or without a final period; else None."""
    word = text.strip().removesuffix(".").lower()
    return word if word in ("yes", "no") else None


def times(text: str) -> list[Element]:
    """Every `<t>…</t>` with whatever stands in it."""
    return [found for found in leaves(tags(text)) if found.name == "t"]


def mentioned_times(think: str) -> tuple[float, ...]:
    """Every `<t>x</t>s` of a reasoning, in seconds; with digits and points alone.

    As in VISD's release, digits and points that are no time, as 1.2.3, void all.
    """
    found = [time.within(think) for time in times(think) if think.startswith("s", time.end)]
    values = [read_time(text) for text in found if _DIGITS.fullmatch(text)]
    return () if None in values else tuple(value for value in values if value is not None)


def grounded_mentions(think: str) -> tuple[GroundedMention, ...]:
    """Every well-formed `<obj>…</obj><box>…</box>at<t>…</t>s`; a malformed one is passed over."""
    mentions: list[GroundedMention] = []
    parts: list[Element] = []
    for element in leaves(tags(think)):
        if element.name == "obj":
            parts = [element]
        elif parts and element.name == "box" and element.start == parts[-1].end:
            parts.append(element)
        else:
            if parts and element.name == "t" and think[parts[-1].end : element.start] == "at":
                mentions += _mention(think, parts, element)
            parts = []
    return tuple(mentions)


def _mention(think: str, parts: list[Element], time: Element) -> list[GroundedMention]:
    """The mention that these elements make; none where one of them cannot be read."""
    name, *rest = (part.within(think) for part in parts)
    time_s = read_time(time.within(think))
    found = [box for raw in rest if (box := read_box(raw))]
    if (
        time_s is None
        or not found
        or len(found) < len(rest)
        or think[time.end : time.end + 1] != "s"
    ):
        return []
    return [GroundedMention(name, tuple(found), time_s)]


def read_box(raw: str) -> Box | None:
    """The corners `[x1,y1,x2,y2]`; None for anything else."""
    match = _CORNERS.fullmatch(raw)
    if match is None:
        return None
    x1, y1, x2, y2 = map(float, match.groups())
    return (x1, y1, x2, y2)


def read_time(raw: str) -> float | None:
    """Seconds, without a sign or space around them; None for anything else."""
    return float(raw) if _TIME.fullmatch(raw) else None
