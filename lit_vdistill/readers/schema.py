"""What a sample must carry, and the checks that say what is wrong with one.

All raise ValueError and name the key, what was expected and what came.
"""

import math
from collections.abc import Mapping
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.responses.grammar import number
from lit_vdistill.types import Facts, MediaType, Task, VideoSample

NEED_A_MEDIUM = (
    Task.TEMPORAL_GROUNDING,
    Task.TEMPORAL_MCQ,
    Task.SPATIAL_GROUNDING,
    Task.SPATIO_TEMPORAL_QA,
)
"""Tasks whose answers are times and places in a medium."""
_HUGE = 1e18
"""No time, coordinate or size comes near it."""


def check_sample(sample: VideoSample) -> None:
    """Whether a sample carries what its task needs.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    if not sample.id.strip() or not sample.question.strip():
        raise ValueError("'id' and 'question' must not be empty")
    _check_texts(sample)
    if (sample.media is None) != (sample.media_type == "text"):
        raise ValueError(f"'media' is {sample.media!r} but 'media_type' is '{sample.media_type}'")
    if sample.media is None and sample.task in NEED_A_MEDIUM:
        raise ValueError(f"task '{sample.task}' needs 'media': its answer is a place in one")
    _check_answer(sample)
    for start, end in sample.evidence.spans:
        if not 0 <= start <= end < math.inf:
            raise ValueError(
                f"'evidence.spans' must have 0 <= start <= end, both finite, got [{start}, {end}]"
            )
    for item in sample.evidence.boxes:
        x1, y1, x2, y2 = item.box
        # 1 % of tolerance: annotators' boxes overshoot the frame by rounding.
        if not (0 <= x1 < x2 <= 1.01 and 0 <= y1 < y2 <= 1.01):
            raise ValueError(
                "'evidence.boxes' must be shares of width and height with x1 < x2 and y1 < y2 in "
                f"[0, 1], got {list(item.box)}"
            )


def _check_texts(sample: VideoSample) -> None:
    """Texts that can be written to files and given to a tokenizer."""
    texts = {"question": sample.question, "answer": sample.answer, "id": sample.id}
    texts |= {"media": sample.media or ""} | {
        f"options[{i}]": o for i, o in enumerate(sample.options)
    }
    texts |= {f"evidence.boxes[{i}].name": b.name for i, b in enumerate(sample.evidence.boxes)}
    for key, text in texts.items():
        if not jsonl.has_utf8(text):
            raise ValueError(f"'{key}' holds half a surrogate pair, which is no text: {text!r:.80}")
    if "\0" in (sample.media or ""):
        raise ValueError(f"'media' is no path: {sample.media!r:.80}")


def _check_answer(sample: VideoSample) -> None:
    answer, task = sample.answer, sample.task
    if task in (Task.MCQ, Task.TEMPORAL_MCQ):
        letters = [chr(ord("A") + i) for i in range(len(sample.options))]
        if answer not in letters:
            raise ValueError(
                f"'answer' must be the letter of one of the options {letters}, got '{answer}'"
            )
    if task is Task.BINARY and answer.lower() not in ("yes", "no"):
        raise ValueError(f"'answer' of a binary task must be yes or no, got '{answer}'")
    if task is Task.NUMERICAL and number(answer) is None:
        raise ValueError(f"'answer' of a numerical task must be a plain number, got '{answer}'")
    if task in (Task.TEMPORAL_GROUNDING, Task.TEMPORAL_MCQ) and not sample.evidence.spans:
        raise ValueError(f"task '{task}' needs 'evidence.spans'")
    if task is Task.SPATIAL_GROUNDING and not sample.evidence.boxes:
        raise ValueError(f"task '{task}' needs 'evidence.boxes'")
    if not answer:
        raise ValueError("'answer' must not be empty")


def check_facts(facts: Facts) -> None:
    """Whether facts can be looked for in a text.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    owner: dict[str, str] = {}
    for kind, words in facts.words.items():
        for word in words:
            if not word.strip():
                raise ValueError(f"'facts.words.{kind}' must hold words, got {word!r}")
            if owner.setdefault(word.lower(), kind) != kind:
                raise ValueError(
                    f"'facts.words' must give each word one kind, '{word}' has two: "
                    f"{owner[word.lower()]} and {kind}"
                )
    for thing in facts.things:
        for kind, word in thing.items():
            if word not in facts.words.get(kind, ()):
                raise ValueError(
                    f"'facts.things' must use the words of 'facts.words.{kind}', got '{word}'"
                )
    for kind in facts.asked:
        if kind not in facts.words:
            raise ValueError(f"'facts.asked' must name kinds of 'facts.words', got '{kind}'")


def seconds(value: Any, key: str) -> float:
    """A time from the start of a video."""
    if type(value) not in (int, float) or not 0 <= value < _HUGE:
        raise ValueError(f"'{key}' must be a number of seconds >= 0, got {value!r:.80}")
    return float(value)


def numbers(value: Any, count: int, key: str) -> tuple[float, ...]:
    """A list of so many numbers, as floats."""
    is_list = isinstance(value, list) and len(value) == count
    if not is_list or not all(type(item) in (int, float) for item in value):
        raise ValueError(f"'{key}' must be a list of {count} numbers, got {value!r:.80}")
    if not all(abs(item) < _HUGE for item in value):  # also of NaN
        raise ValueError(f"'{key}' must be a list of {count} finite numbers, got {value!r:.80}")
    return tuple(float(item) for item in value)


def text_of(raw: Mapping[str, Any], key: str) -> str:
    """The text under a key that must be there."""
    if key not in raw:
        raise ValueError(f"the key '{key}' is missing")
    return expect(raw[key], str, key)


def media_type_of(name: Any) -> MediaType:
    """One of the three media types."""
    if name not in ("video", "image", "text"):
        raise ValueError(f"'media_type' must be video, image or text, got {name!r}")
    return name


def expect(value: Any, kind: type, key: str) -> Any:
    """The value, if it is of the kind."""
    if not isinstance(value, kind):
        raise ValueError(f"'{key}' must be a {kind.__name__}, got {value!r}")
    return value
