"""Records on disk: the project's own JSONL, and the files of others (`readers/foreign.py`).

The own format has one JSON object a line:

    {"id": "v1-when", "task": "temporal_grounding", "media": "videos/v1.mp4",
     "media_type": "video", "question": "When is the cup lifted?", "options": [],
     "answer": "[2.0, 5.0]",
     "evidence": {"spans": [[2.0, 5.0]],
                  "boxes": [{"time_s": 3.0, "name": "cup", "box": [0.1, 0.2, 0.4, 0.6]}]},
     "meta": {"source": "demo"}}

| key | required | what |
|---|---|---|
| `id` | yes | unique in the file; joins the teacher pool |
| `task` | yes | the name of a task, `lit_vdistill/tasks` |
| `question` | yes | the bare question |
| `answer` | yes | letter, `yes`/`no`, number or text; for grounding what a person would say |
| `media` | | path below `data.media_root`, or a dict as below; null or absent for text only |
| `media_type` | | `video` (default), `image`, or `text` when there is no medium |
| `options` | for `mcq`, `temporal_mcq` | option texts without letters, in the order A, B, C … |
| `as_written` | | the question with its options as its authors put it |
| `demonstration` | | a whole response to imitate where no teacher was asked; boxes as shares |
| `evidence.spans` | for `temporal_*` | `[start, end]` in seconds; the first is the answer |
| `evidence.boxes` | for `spatial_grounding` | corners as shares of width and height in [0, 1] |
| `evidence.key_times` | | seconds of key frames, also of those without a box |
| `facts.things` | | by kind, what is true of each thing: `{"colour": "red", "place": "left"}` |
| `facts.words` | with `things` | by kind, all words for it, the wrong ones too |
| `facts.asked` | | kinds that a right open-ended answer states of every thing |
| `meta` | | anything to keep |

A part of a longer video is `{"file": "film.mp4", "start_s": 600.0, "end_s": 630.0}`: all times of
the record, and those that the model reads, count from `start_s`. Frames that were sampled elsewhere
are `{"files": ["v1/0.jpg", "v1/1.jpg"], "times_s": [0.0, 2.5]}`: as many of them as of a
video are taken (`data.frames.max_frames`), with these times.
"""

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.readers.foreign import FORMATS, Row, rows_of_json, rows_of_text
from lit_vdistill.readers.schema import (
    check_facts,
    checked,
    clip_of,
    expect,
    frame_files,
    media_type_of,
    numbers,
    seconds,
    text_of,
)
from lit_vdistill.tasks import Task
from lit_vdistill.types import BoxAt, Evidence, Facts, Source, VideoSample

MAX_TEXT_CHARS = 10_000
"""About 2 500 tokens; what is longer is a mistake as a rule, and takes minutes a step."""
_ID_KEYS = ("id", "problem_id", "qid", "question_id", "vid")
_LOADED = {"envelope"}
"""Fields of a sample that no record has: loading sets them."""


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that cannot be used, and why."""

    id: str
    place: str
    """File and line of the record, or path of the medium."""
    reason: str

    def __str__(self) -> str:
        """One line for a report."""
        return f"{self.id} ({self.place}): {self.reason}"


def read_records(
    path: str | Path, max_text_chars: int = MAX_TEXT_CHARS, key: str = "data.sources.train_path"
) -> tuple[list[VideoSample], list[BadSample]]:
    """Read a file in a known format: `.jsonl` is our own, others are told by their contents.

    Args:
        path: The file.
        max_text_chars: Characters of a question with its options; a longer one is bad.
        key: The option that names the file, for errors.

    Returns:
        The good samples in file order and the bad records; an id that was seen before is bad.

    Raises:
        FileNotFoundError: When the file does not exist.
        ValueError: When the file as a whole is empty, not UTF-8 or not of its format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{key}: {path} does not exist")
    readers = {".jsonl": _lines, ".json": rows_of_json, ".txt": rows_of_text}
    if path.suffix not in readers:
        raise ValueError(
            f"{key}: {path} has the unknown format '{path.suffix}', expected .jsonl (own), .json "
            f"({', '.join(FORMATS)}) or .txt (Charades-STA)"
        )
    _check_encoding(path, key)
    samples: dict[str, VideoSample] = {}
    bad: list[BadSample] = []
    for place, read, parse in _with_key(readers[path.suffix](path), key):
        raw = None
        try:
            raw = read()
            sample = parse(raw)
        except ValueError as error:
            bad.append(BadSample(guess_id(raw), place, str(error)))
            continue
        if sample.id in samples:
            bad.append(BadSample(sample.id, place, "this id stands in the file already"))
            continue
        length = sum(map(len, (sample.question, *sample.options)))
        length = max(length, len(sample.as_written))
        if length > max_text_chars:
            reason = f"'question' and 'options' have {length} characters, at most {max_text_chars}"
            bad.append(BadSample(sample.id, place, f"{reason} (data.sources.max_text_chars)"))
            continue
        samples[sample.id] = sample
    if not samples and not bad:
        raise ValueError(f"{key}: {path} holds no record")
    return list(samples.values()), bad


def with_length(
    samples: Sequence[VideoSample], length_s: float
) -> tuple[list[VideoSample], list[BadSample]]:
    """Training samples whose true segment is no instant, which no answer can overlap.

    Args:
        samples: As they were read.
        length_s: What an instant is taken to last, half before it and half behind, so that answers
            score by how near they are; 0 leaves such samples out.
    """
    good: list[VideoSample] = []
    bad: list[BadSample] = []
    for sample in samples:
        instant = _instant(sample)
        if instant is None:
            good.append(sample)
        elif length_s > 0:
            span = (max(0.0, instant - length_s / 2), instant + length_s / 2)
            spans = (span, *sample.evidence.spans[1:])
            good.append(replace(sample, evidence=replace(sample.evidence, spans=spans)))
        else:
            reason = f"its true segment has no length: {instant} s (data.sources.instant_length_s)"
            bad.append(BadSample(sample.id, str(sample.media), reason))
    return good, bad


def _instant(sample: VideoSample) -> float | None:
    """The time of a true segment without length; None for any other sample."""
    if not sample.task.answers_span:
        return None
    start, end = sample.evidence.spans[0]
    return start if start == end else None


def write_records(path: str | Path, samples: list[VideoSample]) -> None:
    """Write samples in the own format."""
    rows = map(asdict, samples)
    jsonl.write(Path(path), ({k: row[k] for k in row if k not in _LOADED} for row in rows))


def parse_record(raw: Any) -> VideoSample:
    """One record of the own format.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "record")
    known = {field.name for field in fields(VideoSample)} - _LOADED
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"unknown key '{unknown[0]}', the schema has {sorted(known)}")
    media = raw.get("media")
    sample = VideoSample(
        id=text_of(raw, "id"),
        task=Task(text_of(raw, "task")),
        question=text_of(raw, "question"),
        answer=text_of(raw, "answer"),
        media=source_of(media),
        media_type=media_type_of(raw.get("media_type", "text" if media is None else "video")),
        options=tuple(
            expect(o, str, "options") for o in expect(raw.get("options", []), list, "options")
        ),
        as_written=expect(raw.get("as_written", ""), str, "as_written"),
        demonstration=expect(raw.get("demonstration", ""), str, "demonstration"),
        evidence=evidence_of(expect(raw.get("evidence", {}), dict, "evidence")),
        facts=facts_of(expect(raw.get("facts", {}), dict, "facts")),
        meta=expect(raw.get("meta", {}), dict, "meta"),
    )
    return checked(sample)


def source_of(raw: Any) -> Source | None:
    """A path, or a dict that names a part of a file or the files of frames.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    if raw is None or isinstance(raw, str):
        return raw
    keys = sorted(expect(raw, dict, "media"))
    if keys == ["end_s", "file", "start_s"]:
        return clip_of(text_of(raw, "file"), raw["start_s"], raw["end_s"])
    if keys == ["files", "times_s"]:
        files = _texts(raw["files"], "media.files")
        times = expect(raw["times_s"], list, "media.times_s")
        return frame_files(files, [seconds(time, "media.times_s") for time in times])
    raise ValueError(
        "'media' must be a path, {file, start_s, end_s} or {files, times_s}, got a dict with the "
        f"keys {keys!r:.80}"
    )


def evidence_of(raw: Mapping[str, Any]) -> Evidence:
    """The evidence that a dict holds; its boxes may have any units.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    spans = expect(raw.get("spans", []), list, "evidence.spans")
    boxes = expect(raw.get("boxes", []), list, "evidence.boxes")
    key_times = expect(raw.get("key_times", []), list, "evidence.key_times")
    return Evidence(
        spans=tuple(numbers(span, 2, "evidence.spans") for span in spans),  # type: ignore[misc]
        boxes=tuple(_box_at(expect(box, dict, "evidence.boxes")) for box in boxes),
        key_times=tuple(seconds(time, "evidence.key_times") for time in key_times),
    )


def facts_of(raw: Mapping[str, Any]) -> Facts:
    """What is true in words, of the value of a record's `facts`."""
    if unknown := sorted(set(raw) - {field.name for field in fields(Facts)}):
        raise ValueError(f"unknown key 'facts.{unknown[0]}', expected things, words and asked")
    things = expect(raw.get("things", []), list, "facts.things")
    words = expect(raw.get("words", {}), dict, "facts.words")
    facts = Facts(
        things=tuple(_named(thing, "facts.things") for thing in things),
        words={kind: _texts(words[kind], f"facts.words.{kind}") for kind in words},
        asked=_texts(raw.get("asked", []), "facts.asked"),
    )
    check_facts(facts)
    return facts


def _named(raw: Any, key: str) -> Mapping[str, str]:
    return {
        kind: expect(value, str, f"{key}.{kind}") for kind, value in expect(raw, dict, key).items()
    }


def _texts(raw: Any, key: str) -> tuple[str, ...]:
    return tuple(expect(value, str, key) for value in expect(raw, list, key))


def _box_at(raw: Mapping[str, Any]) -> BoxAt:
    time_s = raw.get("time_s")
    if time_s is not None:
        time_s = seconds(time_s, "evidence.boxes.time_s")
    box = numbers(raw.get("box"), 4, "evidence.boxes.box")
    return BoxAt(time_s, text_of(raw, "name"), box)  # type: ignore[arg-type]


def _with_key(rows: Iterator[Row], key: str) -> Iterator[Row]:
    """The rows; an error about the file as a whole names the option."""
    try:
        yield from rows
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _lines(path: Path) -> Iterator[Row]:
    for number, line in jsonl.lines(path):
        place = f"{path}, line {number}"
        yield place, lambda line=line, place=place: jsonl.parse(line, place), parse_record


def _check_encoding(path: Path, key: str) -> None:
    """Refuse a file in another encoding as a whole; a later line that is broken is one bad record.

    Told by the first line, or what a reader would call that.
    """
    with path.open("rb") as file:
        start = file.readline(1 << 16)
    try:
        codecs.getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{key}: {path} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}); "
            "write it as UTF-8"
        ) from error


def guess_id(raw: Any) -> str:
    """What a broken record calls itself."""
    row = raw if isinstance(raw, dict) else {}
    name = next((row[key] for key in _ID_KEYS if key in row), "?")
    return f"{name!s:.80}".encode("utf-8", errors="backslashreplace").decode()
