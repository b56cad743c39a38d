"""What a sample must carry, and the checks that say what is wrong with one.

All raise ValueError and name the key, what was expected and what came.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.responses.grammar import number
from lit_vdistill.types import (
    Box,
    Clip,
    Facts,
    FrameFiles,
    MediaType,
    Source,
    Span,
    VideoSample,
)

MAX_OVERSHOOT_S = 2.0
"""Ends of segments lie a little behind the video in many data sets; further is another video."""
_HUGE = 1e18
"""No time, coordinate or size comes near it."""


BOX_TOLERANCE = 0.01
"""Share of the frame by which a box may overshoot it: annotators round. It is cut at the edge."""


def checked(sample: VideoSample, *, keeps_boxes: bool = False) -> VideoSample:
    """A sample that carries what its task needs, its boxes within the frame.

    Args:
        sample: As it was read.
        keeps_boxes: Whether boxes stay as annotated, beyond the frame too, as a benchmark scores
            them.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    if not sample.id.strip() or not sample.question.strip():
        raise ValueError("'id' and 'question' must not be empty")
    _check_texts(sample)
    if (sample.media is None) != (sample.media_type == "text"):
        raise ValueError(f"'media' is {sample.media!r} but 'media_type' is '{sample.media_type}'")
    if not isinstance(sample.media, str) and sample.media_type == "image":
        raise ValueError(f"'media' of an image must be a path, got {sample.media!r:.80}")
    if sample.media is None and sample.task.needs_medium:
        raise ValueError(f"task '{sample.task}' needs 'media': its answer is a place in one")
    sample.task.check(sample)
    for start, end in sample.evidence.spans:
        if not 0 <= start <= end < math.inf:
            raise ValueError(
                f"'evidence.spans' must have 0 <= start <= end, both finite, got [{start}, {end}]"
            )
    if keeps_boxes:
        return sample
    boxes = tuple(replace(item, box=_within_frame(item.box)) for item in sample.evidence.boxes)
    if boxes == sample.evidence.boxes:
        return sample
    return replace(sample, evidence=replace(sample.evidence, boxes=boxes))


def _within_frame(box: Box) -> Box:
    x1, y1, x2, y2 = (min(max(corner, 0.0), 1.0) for corner in box)
    is_near = all(-BOX_TOLERANCE <= corner <= 1 + BOX_TOLERANCE for corner in box)
    if not (is_near and x1 < x2 and y1 < y2):
        raise ValueError(
            "'evidence.boxes' must be shares of width and height with x1 < x2 and y1 < y2 in "
            f"[0, 1], got {list(box)}"
        )
    return x1, y1, x2, y2


def _check_texts(sample: VideoSample) -> None:
    """Texts that can be written to files and given to a tokenizer."""
    texts = {"question": sample.question, "answer": sample.answer, "id": sample.id}
    texts |= {"as_written": sample.as_written, "demonstration": sample.demonstration}
    paths = files_of(sample.media)
    texts |= {"media": "".join(paths)} | {f"options[{i}]": o for i, o in enumerate(sample.options)}
    texts |= {f"evidence.boxes[{i}].name": b.name for i, b in enumerate(sample.evidence.boxes)}
    for key, text in texts.items():
        if not jsonl.has_utf8(text):
            raise ValueError(f"'{key}' holds half a surrogate pair, which is no text: {text!r:.80}")
    for path in paths:
        if "\0" in path or not path.strip():
            raise ValueError(f"'media' is no path: {path!r:.80}")


def files_of(media: Source | None) -> tuple[str, ...]:
    """The files that a medium is read from."""
    if isinstance(media, FrameFiles):
        return media.files
    if isinstance(media, Clip):
        return (media.file,)
    return () if media is None else (media,)


def behind_end(sample: VideoSample, last_s: float, tolerance_s: float) -> str | None:
    """What is wrong where evidence lies behind the end of its video; None where nothing does.

    Nothing is known of the end of a video whose frames were sampled elsewhere.

    Args:
        sample: The sample.
        last_s: Time of the video's last frame.
        tolerance_s: Seconds by which evidence may lie behind it: a frame lasts, annotators round.
    """
    if sample.media_type != "video" or isinstance(sample.media, FrameFiles):
        return None
    times = [end for _, end in sample.evidence.spans]
    times += sample.evidence.moments
    latest = max(times, default=0.0)
    if latest <= last_s + tolerance_s:
        return None
    return (
        f"evidence at {latest} s, but the video's last frame is at {last_s:.2f} s "
        f"(data.sources.max_overshoot_s {tolerance_s})"
    )


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


def span_of(value: Any, key: str) -> Span:
    """A list of two times in seconds, as numbers or as text."""
    parts = list(value) if isinstance(value, list) else []
    times = [number(part) if isinstance(part, str) else part for part in parts]
    start, end = numbers(times if None not in times else value, 2, key)
    return start, end


def clip_of(file: str, start: Any, end: Any) -> Clip:
    """A part of a file, both ends known."""
    clip = Clip(file, seconds(start, "media.start_s"), seconds(end, "media.end_s"))
    if not clip.start_s < clip.end_s:
        raise ValueError(f"'media' must have start_s < end_s, got {clip.start_s}, {clip.end_s}")
    return clip


def frame_files(files: Sequence[str], times_s: Sequence[float]) -> FrameFiles:
    """Frames that were sampled elsewhere, in the order of their times."""
    if not files or len(files) != len(times_s):
        raise ValueError(
            f"'media' must have as many times_s as files, at least one, got {len(files)} files "
            f"and {len(times_s)} times"
        )
    if any(later <= earlier for earlier, later in pairwise(times_s)):
        raise ValueError(f"'media.times_s' must increase, got {list(times_s)!r:.80}")
    return FrameFiles(tuple(files), tuple(times_s))


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
        raise ValueError(f"'{key}' must be a {kind.__name__}, got {value!r:.80}")
    return value
