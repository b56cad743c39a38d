"""What a benchmark's run has left in its folder: `scores.json`, `run.json`, `predictions.jsonl`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.evaluation.benchmark import Published
from lit_vdistill.readers.records import evidence_of, source_of
from lit_vdistill.readers.schema import expect, media_type_of, text_of
from lit_vdistill.types import Envelope, Evidence, MediaType, Source


@dataclass(frozen=True, slots=True)
class Score:
    """A mean with its 95 % interval, clustered by video: `Score(0.41, 0.37, 0.45, 0.02, 90, 30)`.

    None stands for what is not known: a mean over nothing, an interval of too few videos.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    items: int
    videos: int


Scores = Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class PassCurve:
    """pass@k with its interval, and what guessing among the options would reach."""

    k: Sequence[int]
    value: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]
    guess: Sequence[float | None] | None
    """None where the questions have no options."""


@dataclass(frozen=True, slots=True)
class Blind:
    """What the same student scores without the medium."""

    run: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of the predictions: a question, its truth, and what the student said."""

    id: str
    task: str
    question: str
    options: tuple[str, ...]
    media: Source | None
    media_type: MediaType
    frame_times_s: tuple[float, ...]
    """Of the frames that the prompt had."""
    answer: str
    """The true one."""
    evidence: Evidence
    """With boxes in the units of the text."""
    response: str
    envelope: Envelope
    prompt: str
    problem: str | None
    is_truncated: bool
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A student on a benchmark."""

    name: str
    """What the report calls it."""
    folder: Path
    benchmark: str
    headline: str
    student: str
    questions: int
    videos: int
    problems: Mapping[str, int]
    scores: Scores
    groups: Mapping[str, Scores]
    remarks: Sequence[str]
    descriptions: Mapping[str, str]
    published: Sequence[Published]
    pass_at_k: PassCurve | None
    blind: Blind | None
    settings: Mapping[str, Any]
    answers: Mapping[str, Answer]
    """By id, in the order of the file."""


def read_run(folder: str, name: str) -> Run:
    """All that a run has left.

    Args:
        folder: Of the run.
        name: What the report calls it.

    Raises:
        ValueError: Names file and key, what was expected and what came; or the missing file.
    """
    root = Path(folder)
    files = {name: root / name for name in ("scores.json", "run.json", "predictions.jsonl")}
    for path in files.values():
        if not path.is_file():
            raise ValueError(
                f"{path} does not exist; name the folder of a finished `evaluate run`, and score "
                "it again (`evaluate score`) if only its scores are missing"
            )
    raw, settings = (_json(files[name]) for name in ("scores.json", "run.json"))
    answers = _answers(files["predictions.jsonl"])
    with _At(files["scores.json"]):
        blind, curve = _optional(raw, "blind"), _optional(raw, "pass_at_k")
        return Run(
            name=name,
            folder=root,
            benchmark=text_of(raw, "benchmark"),
            headline=text_of(raw, "headline"),
            student=text_of(raw, "student"),
            questions=_count(raw, "questions"),
            videos=_count(raw, "videos"),
            problems={key: _count(_dict(raw, "problems"), key) for key in _dict(raw, "problems")},
            scores=_scores(raw, "scores"),
            groups={name: _scores(_dict(raw, "groups"), name) for name in _dict(raw, "groups")},
            remarks=[expect(text, str, "remarks") for text in _list(raw, "remarks")],
            descriptions={
                name: text_of(_dict(raw, "descriptions"), name)
                for name in _dict(raw, "descriptions")
            },
            published=[
                _published(expect(row, dict, "published")) for row in _list(raw, "published")
            ],
            pass_at_k=None if curve is None else _pass_curve(curve),
            blind=None if blind is None else Blind(text_of(blind, "run"), _scores(blind, "scores")),
            settings=settings,
            answers=answers,
        )


class _At:
    """Puts a file's name, or a line's, before an error about it."""

    def __init__(self, place: object) -> None:
        self.place = place

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError) and not isinstance(error, _PlacedError):
            raise _PlacedError(f"{self.place}: {error}") from error


class _PlacedError(ValueError):
    """An error that says where it is."""


def _json(path: Path) -> dict[str, Any]:
    with _At(path):
        return expect(jsonl.parse(path.read_bytes(), "the file"), dict, "the file")


def _answers(path: Path) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for place, row in jsonl.read(path):
        with _At(place):
            answer = _answer(expect(row, dict, "the line"))
            if answer.id in found:
                raise ValueError(f"the id {answer.id!r:.80} stands in the file already")
        found[answer.id] = answer
    return found


def _answer(row: Mapping[str, Any]) -> Answer:
    truth = _dict(row, "truth")
    envelope = row.get("envelope", "strict")
    if envelope not in ("strict", "lenient"):
        raise ValueError(f"'envelope' must be strict or lenient, got {envelope!r:.80}")
    scores = _dict(row, "scores")
    return Answer(
        id=text_of(row, "id"),
        task=text_of(row, "task"),
        question=text_of(row, "question"),
        options=tuple(expect(text, str, "options") for text in _list(row, "options")),
        media=source_of(row.get("media")),
        media_type=media_type_of(row.get("media_type", "video" if row.get("media") else "text")),
        frame_times_s=tuple(_floats(row, "frame_times_s")),
        answer=text_of(truth, "answer"),
        evidence=evidence_of(truth),
        response="" if row.get("response") is None else text_of(row, "response"),
        envelope=envelope,
        prompt=expect(row.get("prompt", ""), str, "prompt"),
        problem=expect(row.get("problem") or "", str, "problem") or None,
        is_truncated=expect(row.get("is_truncated") or False, bool, "is_truncated"),
        # What no rule grades is null, and no score.
        scores={key: v for key in scores if (v := _number(scores, key)) is not None},
    )


def _scores(raw: Mapping[str, Any], key: str) -> dict[str, Score]:
    return {name: _score(_dict(_dict(raw, key), name), name) for name in _dict(raw, key)}


def _score(raw: Mapping[str, Any], name: str) -> Score:
    with _At(f"score '{name}'"):
        known = {field.name for field in fields(Score)}
        if missing := sorted(known - set(raw)):
            raise ValueError(f"the key '{missing[0]}' is missing")
        value, low, high, error = (
            _number(raw, key) for key in ("value", "low", "high", "standard_error")
        )
        return Score(value, low, high, error, _count(raw, "items"), _count(raw, "videos"))


def _published(raw: Mapping[str, Any]) -> Published:
    values = _dict(raw, "values")
    known = {name: value for name in values if (value := _number(values, name)) is not None}
    return Published(text_of(raw, "model"), text_of(raw, "source"), known)


def _pass_curve(raw: Mapping[str, Any]) -> PassCurve:
    k = [int(expect(value, int, "pass_at_k.k")) for value in _list(raw, "k")]
    curves = {key: _numbers(raw, key) for key in ("value", "low", "high")}
    guess = None if raw.get("guess") is None else _numbers(raw, "guess")
    for key, values in (*curves.items(), *([] if guess is None else [("guess", guess)])):
        if len(values) != len(k):
            raise ValueError(
                f"'pass_at_k.{key}' must have a number for each of the {len(k)} k, got "
                f"{len(values)}"
            )
    if any(value < 1 for value in k):
        raise ValueError(f"'pass_at_k.k' must be numbers of answers from 1 on, got {k!r:.80}")
    return PassCurve(k, curves["value"], curves["low"], curves["high"], guess)


def _optional(raw: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    return None if raw.get(key) is None else _dict(raw, key)


def _dict(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    return expect(_there(raw, key), dict, key)


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    return expect(_there(raw, key), list, key)


def _there(raw: Mapping[str, Any], key: str) -> Any:
    if key not in raw:
        raise ValueError(f"the key '{key}' is missing")
    return raw[key]


def _count(raw: Mapping[str, Any], key: str) -> int:
    value = _there(raw, key)
    if type(value) is not int or value < 0:
        raise ValueError(f"'{key}' must be a count, got {value!r:.80}")
    return value


def _number(raw: Mapping[str, Any], key: str) -> float | None:
    return _numeric(_there(raw, key), key)


def _numbers(raw: Mapping[str, Any], key: str) -> list[float | None]:
    return [_numeric(value, key) for value in _list(raw, key)]


def _floats(raw: Mapping[str, Any], key: str) -> list[float]:
    found = _numbers(raw, key)
    if None in found:
        raise ValueError(f"'{key}' must be numbers, got null among them")
    return [value for value in found if value is not None]


def _numeric(value: Any, key: str) -> float | None:
    """A number, or None; `jsonl` has refused NaN and what is infinite."""
    if value is not None and type(value) not in (int, float):
        raise ValueError(f"'{key}' must be a number or null, got {value!r:.80}")
    return None if value is None else float(value)
