"""Command-line tools about teacher pools; heavy imports wait until a tool runs."""

import asyncio
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.media.video import MediaError
from lit_vdistill.pool.agreement import AdaptiveConfig, Disagreement
from lit_vdistill.pool.collect import Collector, Outcome, Teacher
from lit_vdistill.pool.scoring import BoxConfig, PoolScorer
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.readers.records import read_records
from lit_vdistill.types import VideoSample

_SHOWN = 10


def collect(
    teacher: Teacher,
    train_path: str,
    pool_path: str,
    pool_size: int = 4,
    choices: int | None = None,
    adaptive: AdaptiveConfig | None = None,
    boxes: BoxConfig | None = None,
    max_samples: int | None = None,
) -> None:
    """Ask a teacher for responses to training questions, until each has its pool.

    Stopped at any moment and started again it goes on: a response is on disk before it is counted.
    Exits with 1 when something is missing in the end.

    Args:
        teacher: Who is asked: a served model, or the embedded world's simulation.
        train_path: Training records.
        pool_path: The pool, a file that is appended to; its journal lies beside it.
        pool_size: K, responses a sample (R-MSD Eq. 1).
        choices: Responses of one call at the most; all that a sample misses when left out.
        adaptive: More where they disagree; not when left out.
        boxes: Units of boxes in the teacher's texts, for `adaptive`.
        max_samples: Only the first so many samples.
    """
    for key, number in (("pool_size", pool_size), ("choices", choices)):
        if number is not None and number < 1:
            raise SystemExit(f"error: {key}: expected 1 or more, got {number}")
    samples = _samples(train_path)[:max_samples]
    collector = Collector(teacher, PoolStore(pool_path), pool_size, choices=choices)
    if adaptive is not None:
        collector.more = Disagreement(adaptive, PoolScorer(boxes or BoxConfig()))
        collector.most_extra = adaptive.extra
    try:
        outcome = asyncio.run(_collect(collector, samples))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    _report(outcome, pool_path, teacher)


async def _collect(collector: Collector, samples: Sequence[VideoSample]) -> Outcome:
    teacher = collector.teacher
    with _progress() as bar:
        collector.on_progress = bar.advance
        async with collector.opened(), aclosing(teacher):
            missing = collector.missing(samples)
            had, again = collector.outcome.had, collector.outcome.asked_again
            sys.stdout.write(
                f"{collector.store.path}: {had} responses are there, {missing} to come\n"
            )
            if again:
                sys.stdout.write(
                    f"{again} calls were in flight when the last run was killed and are asked "
                    "again\n"
                )
            sys.stdout.flush()
            bar.begin(missing, lambda: teacher.spent)
            _stop_at_signals(collector)
            return await collector.run(samples)


def _stop_at_signals(collector: Collector) -> None:
    """Ctrl-C ends the asking; a second one ends the process."""
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        collector.stop(f"{signal.Signals(number).name}: calls in flight come to their end")
        sys.stderr.write("\nstopping: calls in flight come to their end (again: at once)\n")
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)


def _report(outcome: Outcome, path: str, teacher: Teacher) -> None:
    cost = "" if teacher.spent is None else f", cost {teacher.spent:.4f}"
    sys.stdout.write(
        f"{path}: {outcome.had + outcome.added} responses, {outcome.added} new{cost}\n"
    )
    for problem in outcome.failed[:_SHOWN]:
        sys.stdout.write(f"  {problem}\n")
    if more := len(outcome.failed) - _SHOWN:
        sys.stdout.write(f"  … and {more} more\n" if more > 0 else "")
    if outcome.failed:
        sys.stdout.write(
            f"{len(outcome.failed)} samples lack responses; the same command asks again\n"
        )
    if outcome.stopped:
        sys.stdout.write(f"stopped: {outcome.stopped}\n")
    if outcome.failed or outcome.stopped:
        raise SystemExit(1)


def score(
    train_path: str, pool_path: str, scores_path: str, boxes: BoxConfig | None = None
) -> None:
    """Write the quality q of each response of a pool, as it is now: nobody is asked.

    Args:
        train_path: The records that the pool is about.
        pool_path: The pool.
        scores_path: JSONL file to write anew: sample_id, index, task, quality, problem.
        boxes: Units of boxes in the pool's texts.
    """
    from lit_vdistill.responses.grammar import parse_response

    scorer, pools, rows = PoolScorer(boxes or BoxConfig()), _pool(pool_path), []
    for sample in _samples(train_path):
        with _media_told(sample):
            pool = scorer.scored(sample, pools.get(sample.id, ()))
        rows += [
            {
                "sample_id": sample.id,
                "index": scored.response.index,
                "task": str(sample.task),
                "quality": scored.quality,
                "problem": parse_response(scored.response.text, sample.envelope).problem,
            }
            for scored in pool
        ]
    jsonl.write(Path(scores_path), rows)
    sys.stdout.write(f"{scores_path}: {len(rows)} responses\n")


def report(train_path: str, pool_path: str, folder: str, boxes: BoxConfig | None = None) -> None:
    """Write how far a teacher's responses vary (R-MSD §4.4): a page, a table and pictures.

    Args:
        train_path: The records that the pool is about.
        pool_path: The pool.
        folder: Where report.md, variance.csv and the pictures go.
        boxes: Units of boxes in the pool's texts.
    """
    from lit_vdistill.pool.report import telling_example, write_report
    from lit_vdistill.pool.variance import Question, worth_of

    scorer, pools = PoolScorer(boxes or BoxConfig()), _pool(pool_path)
    questions, shown = [], []
    for sample in _samples(train_path):
        responses = pools.get(sample.id, ())
        if not responses:
            continue
        with _media_told(sample):
            in_units, told = scorer.in_units(sample, responses)
        question = Question(in_units, tuple(worth_of(in_units, response) for response in told))
        questions.append(question)
        if sample.task.answers_span:
            shown.append((question, told))
    if not questions:
        raise SystemExit(f"error: {pool_path} has no response to a question of {train_path}")
    example = telling_example(shown)
    write_report(Path(folder), Path(pool_path).name, questions, example)
    sys.stdout.write(f"{folder}: report.md, variance.csv, variance.png, passes.png\n")


@contextmanager
def _media_told(sample: VideoSample) -> Iterator[None]:
    """A medium that cannot be read ends the tool with its name: its boxes would be of no unit."""
    try:
        yield
    except MediaError as error:
        raise SystemExit(f"error: {sample.id} ({sample.media}): {error}") from error


def _samples(path: str) -> list[VideoSample]:
    try:
        samples, bad = read_records(path, key="train_path")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    for problem in bad[:_SHOWN]:
        sys.stdout.write(f"  {problem}\n")
    if bad:
        sys.stdout.write(f"{len(bad)} records cannot be used (see `data check`)\n")
    return samples


def _pool(path: str) -> Any:
    try:
        return PoolStore(path).load()
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


def _progress() -> Any:
    from lit_vdistill.served.progress import ServedProgress

    return ServedProgress("responses")
