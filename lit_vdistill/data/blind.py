"""Training questions that text alone answers: they teach nothing about video (arXiv 2604.05117)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lit_vdistill.readers.records import write_records
from lit_vdistill.rewards import graded_quality
from lit_vdistill.tracking.predictions import StoredPrediction, read_predictions
from lit_vdistill.types import VideoSample

_SHOWN = 10


def needless(
    path: str, samples: Sequence[VideoSample], quality_from: float
) -> dict[str, list[VideoSample]]:
    """Samples whose blind answers are right, by task.

    All answers of a question count, the greedy one and those that were sampled: one lucky guess
    among several says nothing.

    Args:
        path: `predictions.jsonl` of `evaluate run --blind` on these samples.
        samples: Training records.
        quality_from: Mean quality of the answers from which a question needs no video.

    Raises:
        FileNotFoundError: When there is no such file.
        ValueError: When it is no predictions, not blind, or about none of the samples.
    """
    known = {sample.id: sample for sample in samples}
    found = read_predictions(Path(path))
    if seen := next((one for one in found if one.sample.media is not None), None):
        raise ValueError(
            f"{path}: {seen.sample.id} was asked with its medium; expected a run with --blind"
        )
    about = [one for one in found if one.sample.id in known]
    if not about:
        raise ValueError(f"{path}: none of its {len(found)} questions is a training question")
    by_task: dict[str, list[VideoSample]] = {}
    for one in about:
        sample = known[one.sample.id]
        by_task.setdefault(str(sample.task), [])
        if _quality(one) >= quality_from:
            by_task[str(sample.task)].append(sample)
    return by_task


def report_needless(
    path: str, samples: Sequence[VideoSample], quality_from: float, kept: str | None
) -> Iterator[str]:
    """Lines about such questions; the records of all others are written where that is asked for."""
    found = needless(path, samples, quality_from)
    gone = {sample.id for among in found.values() for sample in among}
    yield f"{len(gone)} of {len(samples)} training questions are answered without their medium:"
    for task, among in sorted(found.items()):
        total = sum(str(sample.task) == task for sample in samples)
        names = ", ".join(sample.id for sample in among[:_SHOWN])
        more = " …" if len(among) > _SHOWN else ""
        yield f"  {task}: {len(among)} of {total}{': ' if names else ''}{names}{more}"
    if kept is not None:
        rest = [sample for sample in samples if sample.id not in gone]
        write_records(kept, rest)
        yield f"  the other {len(rest)} are written to {kept}"


def _quality(one: StoredPrediction) -> float:
    texts = (one.text, *one.sampled)
    return sum(graded_quality(text, one.sample) for text in texts) / len(texts)
