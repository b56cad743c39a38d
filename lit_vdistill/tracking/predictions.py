"""Answers to held-out questions on disk: one record, one writer, for every command that answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl, processes
from lit_vdistill.types import Rollout, VideoSample

_ROWS_AT_ONCE = 256
"""Rows of a process that all others receive together: what bounds the memory for it."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question, its truth and what was answered: `Prediction(sample, answer, (0.5,), {…})`."""

    sample: VideoSample
    """With boxes in the units of the text."""
    answer: Rollout
    """The greedy one."""
    frame_times_s: tuple[float, ...]
    """Seconds of the frames that the prompt had."""
    scores: Mapping[str, float]
    """What the answers are worth, by the metric's name in the report."""
    sampled: tuple[Rollout, ...] = ()
    """Answers beside the greedy one, where some were drawn."""

    def row(self) -> dict[str, Any]:
        """The record as plain values: a line of the file."""
        sample, answer = self.sample, self.answer
        return {
            "id": sample.id,
            "task": str(sample.task),
            "meta": dict(sample.meta),
            "media": sample.media,
            "frame_times_s": list(self.frame_times_s),
            "question": sample.question,
            "options": list(sample.options),
            "truth": {"answer": sample.answer, **asdict(sample.evidence)},
            "response": answer.text,
            "is_truncated": answer.is_truncated,
            "scores": dict(self.scores),
            "sampled": [rollout.text for rollout in self.sampled],
            "completion_ids": list(answer.completion_ids),
            "logprobs": list(answer.rollout_logprobs),
        }


class PredictionFile:
    """One file of all processes' predictions, each once, in the order of the split.

    Until it is finished each process keeps its rows in a file of its own,
    `<name>.part<rank>.jsonl`, which a run that dies leaves behind.
    """

    def __init__(self, path: Path) -> None:
        """Begin; an older file of the name stays until this one is finished."""
        self.path = path
        self._part = path.with_name(f"{path.stem}.part{processes.rank()}{path.suffix}")
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
        self._part.unlink()
        return rows
