"""What a model that rates answers is told, in our own words, and how its reply is read."""

import hashlib
import re

from lit_vdistill.responses.prompts import Message

_SYSTEM = """\
You compare an answer with the true answer to a question about a video. Only the meaning counts, \
neither words nor length. Give one digit and nothing else:
3: it says the same, nothing of weight is missing or wrong.
2: the main point is right, something smaller is missing or wrong.
1: it is about the right thing, but the main point is missing or wrong.
0: it is wrong, says nothing about the question, or is empty."""
_DIGIT = re.compile(r"(?<![\d.])[0-3](?![\d.]*\d)")
RATING_VERSION = hashlib.sha256(_SYSTEM.encode()).hexdigest()[:8]


def rating_messages(question: str, truth: str, candidate: str) -> list[Message]:
    """The chat for one answer."""
    lines = [f"Question: {question}", f"True answer: {truth}", f"Answer: {candidate}"]
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": "\n".join(lines)},
    ]


def read_rating(text: str) -> int | None:
    """The digit of a reply; None where there is none, or several that differ."""
    found = set(_DIGIT.findall(text))
    return int(found.pop()) if len(found) == 1 else None
