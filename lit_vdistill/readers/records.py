"""Records on disk: the project's own JSONL, and Video-R1's and Open-o3-Video's (STGR) JSON.

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
| `task` | yes | one of `lit_vdistill.types.Task` |
| `question` | yes | the bare question |
| `answer` | yes | letter, `yes`/`no`, number or text; for grounding what a person would say |
| `media` | | path below `data.media_root`; null or absent for text only |
| `media_type` | | `video` (default), `image`, or `text` when there is no medium |
| `options` | for `mcq`, `temporal_mcq` | option texts without letters, in the order A, B, C … |
| `evidence.spans` | for `temporal_*` | `[start, end]` in seconds; the first is the answer |
| `evidence.boxes` | for `spatial_grounding` | corners as shares of width and height in [0, 1] |
| `facts.things` | | by kind, what is true of each thing: `{"colour": "red", "place": "left"}` |
| `facts.words` | with `things` | by kind, all words for it, the wrong ones too |
| `facts.asked` | | kinds that a right open-ended answer states of every thing |
| `meta` | | anything to keep |
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.readers.schema import (
    check_facts,
    check_sample,
    expect,
    media_type_of,
    numbers,
    seconds,
    text_of,
)
from lit_vdistill.readers.stgr import STGR_TASKS, parse_stgr
from lit_vdistill.types import BoxAt, Evidence, Facts, Task, VideoSample

MAX_TEXT_CHARS = 10_000
"""About 2 500 tokens; what is longer is a mistake as a rule, and takes minutes a step."""
_VIDEO_R1_TASKS = {
    "multiple choice": Task.MCQ,
    "numerical": Task.NUMERICAL,
    "regression": Task.NUMERICAL,
    "OCR": Task.OCR,
    "free-form": Task.OPEN_ENDED,
}


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
    path: str | Path, max_text_chars: int = MAX_TEXT_CHARS
) -> tuple[list[VideoSample], list[BadSample]]:
    """Read a file in a known format: `.jsonl` is our own, `.json` a list of Video-R1 or STGR.

    Args:
        path: The file.
        max_text_chars: Characters of a question with its options; a longer one is bad.

    Returns:
        The good samples in file order and the bad records; an id that was seen before is bad.

    Raises:
        FileNotFoundError: When the file does not exist.
        ValueError: When the file as a whole is not of its format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"records {path} do not exist (data.sources.train_path, val_path, test_path)"
        )
    readers = {".jsonl": (_lines, parse_record), ".json": (_json_rows, _parse_row)}
    if path.suffix not in readers:
        raise ValueError(
            f"{path}: unknown format '{path.suffix}', expected .jsonl (own) or .json (Video-R1 or "
            "STGR)"
        )
    rows, parse = readers[path.suffix]
    samples: dict[str, VideoSample] = {}
    bad: list[BadSample] = []
    for place, raw in rows(path):
        try:
            sample = parse(raw() if callable(raw) else raw)
        except ValueError as error:
            bad.append(BadSample(_guess_id(raw), place, str(error)))
            continue
        if sample.id in samples:
            bad.append(BadSample(sample.id, place, "this id stands in the file already"))
            continue
        length = sum(map(len, (sample.question, *sample.options)))
        if length > max_text_chars:
            reason = f"'question' and 'options' have {length} characters, at most {max_text_chars}"
            bad.append(BadSample(sample.id, place, f"{reason} (data.sources.max_text_chars)"))
            continue
        samples[sample.id] = sample
    return list(samples.values()), bad


def write_records(path: str | Path, samples: list[VideoSample]) -> None:
    """Write samples in the own format."""
    jsonl.write(Path(path), map(asdict, samples))


def parse_record(raw: Any) -> VideoSample:
    """One record of the own format.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "record")
    known = {field.name for field in fields(VideoSample)}
    if unknown := sorted(set(raw) - known):
        raise ValueError(f"unknown key '{unknown[0]}', the schema has {sorted(known)}")
    media = raw.get("media")
    sample = VideoSample(
        id=text_of(raw, "id"),
        task=_task(text_of(raw, "task")),
        question=text_of(raw, "question"),
        answer=text_of(raw, "answer"),
        media=None if media is None else expect(media, str, "media"),
        media_type=media_type_of(raw.get("media_type", "text" if media is None else "video")),
        options=tuple(
            expect(o, str, "options") for o in expect(raw.get("options", []), list, "options")
        ),
        evidence=_evidence(expect(raw.get("evidence", {}), dict, "evidence")),
        facts=_facts(expect(raw.get("facts", {}), dict, "facts")),
        meta=expect(raw.get("meta", {}), dict, "meta"),
    )
    check_sample(sample)
    return sample


def _parse_row(raw: Any) -> VideoSample:
    """One row of a JSON list, by the format that its task's name belongs to."""
    is_stgr = isinstance(raw, dict) and raw.get("task") in STGR_TASKS
    return parse_stgr(raw) if is_stgr else parse_video_r1(raw)


def parse_video_r1(raw: Any) -> VideoSample:
    """One row of Video-R1's list: `problem`, `problem_type`, `solution`, `path`, `options`.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "row")
    kind = text_of(raw, "problem_type")
    if kind not in _VIDEO_R1_TASKS:
        raise ValueError(f"'problem_type' must be one of {sorted(_VIDEO_R1_TASKS)}, got '{kind}'")
    solution = re.search(r"<answer>(.*?)</answer>", text_of(raw, "solution"), re.DOTALL)
    if not solution:
        raise ValueError(f"'solution' has no <answer>…</answer>: {raw['solution']!r}")
    options = raw.get("options") or []
    sample = VideoSample(
        id=str(raw.get("problem_id", "")),
        task=_VIDEO_R1_TASKS[kind],
        question=text_of(raw, "problem"),
        answer=solution.group(1).strip(),
        media=text_of(raw, "path").removeprefix("./"),
        media_type=media_type_of(raw.get("data_type", "video")),
        # "A. cup" -> "cup": our options carry no letters.
        options=tuple(re.sub(r"^[A-Z][.):]\s*", "", expect(o, str, "options")) for o in options),
        meta={"source": "video-r1"},
    )
    check_sample(sample)
    return sample


def _evidence(raw: Mapping[str, Any]) -> Evidence:
    spans = expect(raw.get("spans", []), list, "evidence.spans")
    boxes = expect(raw.get("boxes", []), list, "evidence.boxes")
    return Evidence(
        spans=tuple(numbers(span, 2, "evidence.spans") for span in spans),  # type: ignore[misc]
        boxes=tuple(_box_at(expect(box, dict, "evidence.boxes")) for box in boxes),
    )


def _facts(raw: Mapping[str, Any]) -> Facts:
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


def _task(name: str) -> Task:
    if name not in list(Task):
        raise ValueError(f"'task' must be one of {[str(task) for task in Task]}, got '{name}'")
    return Task(name)


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in jsonl.lines(path):
        place = f"{path}, line {number}"
        yield place, lambda line=line, place=place: jsonl.parse(line, place)


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        # Numbers that are none are left to the checks of each row, which name it.
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of rows, got {type(rows).__name__}")
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows))


def _guess_id(raw: Any) -> str:
    try:
        raw = raw() if callable(raw) else raw
        name = str(raw.get("id", raw.get("problem_id", "?")))
        return name.encode("utf-8", errors="backslashreplace").decode()
    except (ValueError, AttributeError):
        return "?"
