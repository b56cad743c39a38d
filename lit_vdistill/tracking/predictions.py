"""Answers to held-out questions on disk: one record, one writer, for every command that answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_vdistill import jsonl, processes
from lit_vdistill.readers.records import evidence_of, facts_of, source_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import Rollout, VideoSample

if TYPE_CHECKING:
    from lit_vdistill.models.prompt import EncodedPrompt

_ROWS_AT_ONCE = 256
"""Rows of a process that all others receive together: what bounds the memory for it."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question, its truth and what was answered: `Prediction(sample, answer, (0.5,), {…})`."""

    sample: VideoSample
    """With boxes in the units of the text."""
    answer: Rollout | None
    """The greedy one; None where the question could not be put."""
    frame_times_s: tuple[float, ...]
    """Seconds of the frames that the prompt had."""
    scores: Mapping[str, float]
    """What the answers are worth, by the metric's name in the report."""
    sampled: tuple[Rollout, ...] = ()
    """Answers beside the greedy one, where some were drawn."""
    prompt: str = ""
    """What the model read."""
    problem: str | None = None
    """Why there is no answer, e.g. a video that cannot be read."""

    def row(self) -> dict[str, Any]:
        """The record as plain values: a line of the file."""
        sample, answer = self.sample, self.answer
        return {
            "id": sample.id,
            "task": str(sample.task),
            "meta": dict(sample.meta),
            "media": sample.media if isinstance(sample.media, str | None) else asdict(sample.media),
            "media_type": sample.media_type,
            "frame_times_s": list(self.frame_times_s),
            "prompt": self.prompt,
            "question": sample.question,
            "options": list(sample.options),
            "truth": {"answer": sample.answer, **asdict(sample.evidence)},
            "facts": asdict(sample.facts),
            "envelope": sample.envelope,
            "response": None if answer is None else answer.text,
            "is_truncated": answer is not None and answer.is_truncated,
            "problem": self.problem,
            "scores": dict(self.scores),
            "sampled": [rollout.text for rollout in self.sampled],
            "completion_ids": [] if answer is None else list(answer.completion_ids),
            "logprobs": [] if answer is None else list(answer.rollout_logprobs),
        }


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """A line of such a file, read again."""

    sample: VideoSample
    text: str
    """The greedy answer; "" where there is none."""
    sampled: tuple[str, ...]
    problem: str | None
    """Why there is no answer, or that it is cut off."""


def read_predictions(path: Path) -> list[StoredPrediction]:
    """What a command has answered.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: For a line that is no prediction; names file, line and key.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: no predictions")
    return [_stored(place, row) for place, row in jsonl.read(path)]


def _stored(place: str, row: Any) -> StoredPrediction:
    try:
        truth = row["truth"]
        sample = VideoSample(
            id=row["id"],
            task=Task(row["task"]),
            question=row["question"],
            answer=truth["answer"],
            media=source_of(row["media"]),
            media_type=row["media_type"],
            options=tuple(row["options"]),
            evidence=evidence_of({k: v for k, v in truth.items() if k != "answer"}),
            facts=facts_of(row["facts"]),
            meta=row["meta"],
            envelope=row["envelope"],
        )
        problem = row["problem"] or ("cut off" if row["is_truncated"] else None)
        return StoredPrediction(sample, row["response"] or "", tuple(row["sampled"]), problem)
    except KeyError as error:
        raise ValueError(f"{place}: no prediction: it has no key {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: no prediction: {error}") from error


def prompt_as_read(prompt: "EncodedPrompt", tokenizer: Any) -> str:
    """The text of a prompt's tokens, with one placeholder for all that stand side by side."""
    types = prompt.token_types
    is_repeated = (types[1:] > 0) & (types[1:] == types[:-1])
    kept = [True, *(~is_repeated).tolist()]
    ids = [i for i, keep in zip(prompt.input_ids.tolist(), kept, strict=True) if keep]
    return tokenizer.decode(ids)


class PredictionFile:
    """One file of all processes' predictions, each once, in the order of the split.

    Until it is finished each process keeps its rows in a file of its own,
    `<name>.part<rank>.jsonl`, which a run that dies leaves behind.
    """

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        """Begin; an older file of the name stays until this one is finished.

        All processes call it.

        Args:
            path: The file.
            goes_on: Whether what was answered before counts, in the file and in what a run that
                died has left; else it is done anew. A question that could not be put is open
                again: its medium may be there by now.
        """
        self.path = path
        parts = path.parent.glob(f"{path.stem}.part*{path.suffix}")
        self._part = path.with_name(f"{path.stem}.part{processes.rank()}{path.suffix}")
        before: dict[str, dict[str, Any]] = {}
        if processes.rank() == 0:
            left = sorted(parts)
            if goes_on:
                read = [file for file in (*left, path) if file.is_file()]
                rows = [row for file in read for _, row in jsonl.read(file)]
                before = {row["id"]: row for row in rows if row["response"] is not None}
            jsonl.write(self._part, before.values())
            for other in left:
                if other != self._part:
                    other.unlink()
        self.known = processes.gather(set(before))[0]
        """Ids of what was answered before."""
        if processes.rank() > 0:
            jsonl.write(self._part, [])

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write down what this process has answered, `Prediction.row` by `Prediction.row`."""
        jsonl.append(self._part, rows)

    def finish(self, place: Callable[[str], int]) -> list[dict[str, Any]]:
        """Put the parts together; all processes call it, and the first writes.

        Args:
            place: Where a sample stands in its split, by its id.

        Returns:
            All rows on the first process, none on the others.
        """
        own = [row for _, row in jsonl.read(self._part)]
        rows: list[dict[str, Any]] = []
        for start in range(0, max(processes.gather(len(own))), _ROWS_AT_ONCE):
            parts = processes.gather(own[start : start + _ROWS_AT_ONCE])
            if processes.rank() == 0:
                rows += [row for part in parts for row in part]
        if processes.rank() == 0:
            rows.sort(key=lambda row: place(row["id"]))
            jsonl.write(self.path, rows)
        processes.gather(None)  # a part goes once all of it is in the file,
        self._part.unlink()
        processes.gather(None)  # and nobody goes on before the last one has gone
        return rows
