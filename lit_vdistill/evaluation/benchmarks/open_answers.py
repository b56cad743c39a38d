"""Whether a free answer states a truth, a number or words, by rules."""

import re
from collections.abc import Sequence

from lit_vdistill.evaluation.benchmarks.answers import answer_text, plain

_INDICATOR = re.compile(r"=|≈|\bis\b|\bare\b|\banswer\b:?|\bequals\b|\btherefore\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.])[+-]?(?:[0-9]{1,3}(?:,[0-9]{3}){1,5}|[0-9]{1,15})(?:\.[0-9]{1,15})?"
    r"(?:[eE][+-]?[0-9]{1,2})?(?![0-9])"
)
_DECIMALS = 2


def is_stated(text: str, truths: Sequence[str]) -> bool | None:
    """Whether a response states one of several truths; None where it says nothing.

    What counts stands behind the last `is`, `=` or `answer` of its answer, or is all of it where
    they are missing. A true number must be among its numbers, both rounded to two decimals; a true
    text must stand in it in whole words, whatever the case.
    """
    answer = answer_text(text)
    if not answer:
        return None
    tail = next((part for part in reversed(_INDICATOR.split(answer)) if part.strip()), "")
    numbers = {
        rounded for found in _NUMBER.findall(tail) if (rounded := _rounded(found)) is not None
    }
    return any(_is_in(truth, tail, numbers) for truth in truths)


def _is_in(truth: str, tail: str, numbers: set[float]) -> bool:
    value = _rounded(truth.strip())
    if value is not None:
        return value in numbers
    return re.search(rf"(?<!\w){re.escape(plain(truth))}(?!\w)", plain(tail)) is not None


def _rounded(text: str) -> float | None:
    """The value of a text that is one number."""
    if not _NUMBER.fullmatch(text):
        return None
    return round(float(text.replace(",", "")), _DECIMALS)
