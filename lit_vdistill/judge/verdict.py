"""What a feedback says of an answer, read from its words: for a judge's agreement with rules."""

import re
from typing import Literal

Said = Literal["right", "partly", "wrong", "unclear"]
_PARTLY = re.compile(r"\b(?:partly|partially|mostly|almost|half)\b", re.IGNORECASE)
_WRONG = re.compile(
    r"\b(?:wrong|incorrect(?:ly)?|inaccurate|mistaken|false|no final answer)\b"
    r"|\b(?:not|isn't|neither)(?: \w+)? (?:correct|right|accurate)\b",
    re.IGNORECASE,
)
_RIGHT = re.compile(r"\b(?:correct(?:ly)?|right|accurate(?:ly)?)\b", re.IGNORECASE)


def verdict_of(feedback: str) -> Said:
    """What the first sentence that judges says; `unclear` where none does."""
    for sentence in re.split(r"(?<=[.!?])\s+", feedback):
        if _PARTLY.search(sentence) and (_RIGHT.search(sentence) or _WRONG.search(sentence)):
            return "partly"
        if _WRONG.search(sentence):
            return "wrong"
        if _RIGHT.search(sentence):
            return "right"
    return "unclear"
