"""What a response answers, in our grammar or as other models write it; None where that is unclear.

One reading for all benchmarks, more lenient than training's (`responses/grammar.py`), as students
that were never taught the grammar are measured too. Nothing is guessed: two letters that differ,
the article `A`, or `Based on` are no answer.
"""

import re
from collections.abc import Callable, Sequence

from lit_vdistill.readers.options import LETTERS
from lit_vdistill.responses.grammar import option_letter, time_span, until_end
from lit_vdistill.responses.tags import blocks, tags
from lit_vdistill.types import Span

NO_LETTER = "no option's letter"
NO_SPAN = "no time span"
# A and I are words too: they are letters where no sentence goes on behind them but with a reason.
_LETTER = r"(?:([B-HJ-Z])(?![\w'’])|([AI])(?![\w'’])(?!\s{1,8}(?!(?:because|since|as)\b)\w))"
_SAID = re.compile(
    rf"(?i:\b(?:answer|option|choice)(?:\s{{0,4}}is\b)?\s{{0,4}}:?\s{{0,4}})[(\[]?{_LETTER}"
    r"|\\boxed\{\s{0,4}([A-Z])\s{0,4}\}"
)
_AT_LINE = re.compile(
    r"^[^\S\n]{0,8}(?:[(\[]([A-Z])[)\]]|([A-Z])[.):](?=\s|$)|([A-Z])(?=[^\S\n]{0,8}$))",
    re.MULTILINE,
)
_SECONDS = r"([0-9]{1,9}(?:\.[0-9]{0,20})?)"
_UNIT = r"(?:s|secs?|seconds?)\b"
_FIRST = rf"(?<![\w.-]){_SECONDS}(?=\s{{0,4}}{_UNIT}|(?!\w))"
_PAIR = re.compile(
    rf"{_FIRST}\s{{0,4}}(?:{_UNIT}\.?)?\s{{0,8}}(?:to|and|until|till|-|–|—|~)\s{{0,8}}"
    rf"{_SECONDS}(?=\s{{0,4}}{_UNIT}|(?!\w))"
)
_ANY = re.compile(_FIRST)
_CLOCK = re.compile(
    r"(?<![\w.:])(?:([0-9]{1,2}):)?([0-9]{1,3}):([0-9]{2}(?:\.[0-9]{0,20})?)(?![\w:])"
)


def answer_text(text: str) -> str:
    """The part of a response that answers: without its reasoning, the inside of its answer block.

    Without such a block, all that follows the reasoning; nothing where the reasoning does not end.
    """
    _, ended, rest = until_end(text).rpartition("</think>")
    if not ended:
        rest = rest.partition("<think>")[0]
    found = blocks(tags(rest), "answer")
    if found:
        return found[-1].within(rest).strip()
    return rest.rpartition("<answer>")[2].strip()


def read_choice(text: str, options: Sequence[str]) -> str | None:
    r"""The letter of the option that a response chooses; None where that is unclear.

    In the answer, the first of these that names an option there is: a letter alone, as in `B`,
    `B.`, `(B)`, `[B]`; a letter that is said, as in `The answer is B`, `Correct Option: B`,
    `\boxed{B}`; a letter before a line, as in `B. a dog` or `(B) a dog`; the text of an option.
    Where a way of writing names several, nothing is chosen.
    """
    answer = answer_text(text).replace("*", "").strip()
    ways: tuple[Callable[[], set[str]], ...] = (
        lambda: {option_letter(answer) or ""},
        lambda: {"".join(groups) for groups in _SAID.findall(answer)},
        lambda: {"".join(groups) for groups in _AT_LINE.findall(answer)},
        lambda: _same_text(answer, options),
    )
    for way in ways:
        if found := way() & set(LETTERS[: len(options)]):
            return found.pop() if len(found) == 1 else None
    return None


def read_span(text: str) -> Span | None:
    """The segment of a response in seconds; None where there is none, or where it is inverted.

    In the answer, first `From <t>a</t>s to <t>b</t>s`; then the last of `a to b`, `a and b`,
    `a - b`, with or without `s`; then two numbers, where there are no more. Times may be written
    `m:ss` or `h:mm:ss`; one with a sign is none.
    """
    answer = answer_text(text)
    span = time_span(answer) or _plain_span(answer)
    return span if span is not None and span[0] <= span[1] else None


def _plain_span(answer: str) -> Span | None:
    answer = _CLOCK.sub(_as_seconds, answer)
    found = _PAIR.findall(answer) or [_ANY.findall(answer)]
    if len(found[-1]) != 2:
        return None
    start, end = map(float, found[-1])
    return start, end


def _as_seconds(clock: re.Match[str]) -> str:
    hours, minutes, seconds = clock.groups()
    return f"{int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds):.3f}"


def _same_text(answer: str, options: Sequence[str]) -> set[str]:
    said = plain(answer)
    return {LETTERS[i] for i, option in enumerate(options) if said and plain(option) == said}


def plain(text: str) -> str:
    """A text without what does not matter: case, line breaks, a final stop."""
    return " ".join(text.casefold().split()).removesuffix(".")
