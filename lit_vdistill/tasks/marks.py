"""Judging what an answer is made of, character by character (`metrics/token_truth.py`)."""

import re
from collections.abc import Callable, Iterator

from lit_vdistill.types import Mark, Verdict

_LETTER = re.compile(r"(?<![A-Za-z])[A-Z](?![A-Za-z])")


def letters(text: str, place: tuple[int, int], truth: str) -> Iterator[Mark]:
    """The letter of an option that stands in a place."""
    return single(_LETTER, text, place, "letter", truth.__eq__)


def single(
    pattern: re.Pattern[str],
    text: str,
    place: tuple[int, int],
    kind: str,
    is_right: Callable[[str], bool],
) -> Iterator[Mark]:
    """What a pattern finds in a place; unclear where it finds several."""
    found = list(pattern.finditer(text, *place))
    for match in found:
        verdict: Verdict = "right" if is_right(match.group()) else "wrong"
        yield Mark(*match.span(), kind, verdict if len(found) == 1 else "unclear")


def by_word(text: str, place: tuple[int, int], truth: str) -> Iterator[Mark]:
    """Word by word, where there are as many as in the truth; else unclear."""
    said, true = list(re.finditer(r"\S+", text[slice(*place)])), truth.split()
    for i, word in enumerate(said):
        verdict: Verdict = "unclear"
        if len(said) == len(true):
            verdict = "right" if word.group() == true[i] else "wrong"
        yield Mark(place[0] + word.start(), place[0] + word.end(), "text", verdict)
