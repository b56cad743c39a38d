"""Command-line tools about data; heavy imports wait until a tool runs."""

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_vdistill.readers.records import MAX_TEXT_CHARS, BadSample, read_records, with_length
from lit_vdistill.readers.schema import MAX_OVERSHOOT_S, behind_end, files_of
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.types import Clip, Source, TeacherResponse, VideoSample
from lit_vdistill.world.config import WorldConfig

_SAME_LENGTH_S = 1.0
"""A file and its record may differ by it."""


@dataclass(frozen=True)
class Limits:
    """What `data check` reads of a medium, and what it finds too much."""

    max_frames: int = 16
    """Frames to decode of each video."""
    decode_timeout_s: float = 60.0
    """A medium that takes longer is reported."""
    max_text_chars: int = MAX_TEXT_CHARS
    """A question that has more characters with its options is reported."""
    max_overshoot_s: float = MAX_OVERSHOOT_S
    """Evidence that lies further behind its video's last frame is reported."""
    blind_from: float = 1.0
    """Mean quality of blind answers from which a question needs no medium."""


def world(root: str, size: WorldConfig | None = None) -> None:
    """Render the embedded world: videos, records and the simulated teacher's pool.

    Args:
        root: Folder to write to; must be empty or absent.
        size: Size and seed; the default world when left out.
    """
    from lit_vdistill.world.build import build_world

    build_world(root, size or WorldConfig())
    sys.stdout.write(f"{root}: train.jsonl, val.jsonl, test.jsonl, pool.jsonl, videos/\n")


def check(
    train_path: str,
    media_root: str,
    val_path: str | None = None,
    test_path: str | None = None,
    pool_path: str | None = None,
    limits: Limits | None = None,
    blind: str | None = None,
    kept: str | None = None,
) -> None:
    """Check records and decode every medium once; exits with 1 when something is wrong.

    Args:
        train_path: Training records.
        media_root: Media paths are below it.
        val_path: Validation records; no medium and no id of theirs may be in training.
        test_path: Test records; theirs may be in neither.
        pool_path: Teacher pool of the training records.
        limits: What is read of a medium, and what is too much; as in a run when left out.
        blind: Predictions of `evaluate run --blind` on the training records: those that are right
            without the medium are listed.
        kept: Where the training records without those go.
    """
    limits = limits or Limits()
    if kept is not None and blind is None:
        raise SystemExit("error: kept: expected beside --blind, which says what is left out")
    paths = {"train": train_path, "val": val_path, "test": test_path}
    splits, problems = _records({k: v for k, v in paths.items() if v is not None}, limits)
    tasks = Counter(str(sample.task) for samples in splits.values() for sample in samples)
    sys.stdout.write(f"{sum(tasks.values())} records: {dict(sorted(tasks.items()))}\n")
    hashes: dict[str, dict[Source, str]] = {split: {} for split in splits}
    for split, samples in splits.items():
        problems += _check_media(split, samples, media_root, limits, hashes[split])
        problems += _duplicates(samples)
    problems += _overlap(splits, hashes)
    if pool_path is not None:
        problems += _check_pool(pool_path, splits["train"])
    if blind is not None:
        _report_blind(blind, splits["train"], limits.blind_from, kept)
    for problem in problems:
        sys.stdout.write(f"  {problem}\n")
    sys.stdout.write(f"{len(problems)} problems\n")
    if problems:
        raise SystemExit(1)


def _records(
    paths: Mapping[str, str], limits: Limits
) -> tuple[dict[str, list[VideoSample]], list[BadSample]]:
    """The samples of each split, and the records that are none."""
    splits: dict[str, list[VideoSample]] = {}
    problems: list[BadSample] = []
    for split, path in paths.items():
        try:
            key = f"{split}_path (data.sources.{split}_path)"
            splits[split], bad = read_records(path, limits.max_text_chars, key)
        except (OSError, ValueError) as error:
            raise SystemExit(f"error: {error}") from error
        problems += bad
    problems += with_length(splits["train"], 0.0)[1]
    return splits, problems


def _check_media(
    split: str,
    samples: Sequence[VideoSample],
    root: str,
    limits: Limits,
    hashes: dict[Source, str],
) -> Iterator[BadSample]:
    """Decode each medium once, and compare what is said of times with its last frame."""
    from lit_vdistill.media.video import FrameConfig, MediaError, MediaReader

    config = FrameConfig(max_frames=limits.max_frames, decode_timeout_s=limits.decode_timeout_s)
    reader = MediaReader(root, config, factor=1, cache_dir=None)
    by_media: dict[Source, list[VideoSample]] = defaultdict(list)
    for sample in samples:
        if sample.media is not None:
            by_media[sample.media].append(sample)
    with _progress() as progress:
        for media, users in progress.track(by_media.items(), description=f"{split} media"):
            try:
                last_s = reader.read(media, users[0].media_type).times_s[-1]
                files = [reader.resolve(file) for file in files_of(media)]
                hashes[media] = _digest(files, media)
            except (MediaError, OSError) as error:
                yield from (BadSample(sample.id, str(media), str(error)) for sample in users)
                continue
            for sample in users:
                reasons = [behind_end(sample, last_s, limits.max_overshoot_s), _cut(sample, last_s)]
                yield from (BadSample(sample.id, str(media), r) for r in reasons if r)


def _cut(sample: VideoSample, last_s: float) -> str | None:
    """What is wrong where a file is much longer than its record says: its times are of a part."""
    known = sample.meta.get("duration_s")
    if not isinstance(known, float) or last_s <= known + _SAME_LENGTH_S:
        return None
    return (
        f"the record is about {known} s, but its video's last frame is at {last_s:.2f} s: cut the "
        "part out that is meant"
    )


def _digest(files: Sequence[Path], media: Source) -> str:
    """A name for what is in files, read in pieces; a part of a file is another medium than it."""
    digest = hashlib.sha256(str(media).encode() if isinstance(media, Clip) else b"")
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _progress() -> Any:
    """A bar with a rate, on standard error beside the report."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0.0:.1f} media/s")

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), Rate())
    return Progress(*columns, console=Console(stderr=True))


def _duplicates(samples: list[VideoSample]) -> Iterator[BadSample]:
    first: dict[tuple[Source | None, str, tuple[str, ...]], str] = {}
    for sample in samples:
        key = (sample.media, sample.question, sample.options)
        if key in first:
            reason = f"asks the same about the same medium as '{first[key]}'"
            yield BadSample(sample.id, str(sample.media), reason)
        first.setdefault(key, sample.id)


def _overlap(
    splits: dict[str, list[VideoSample]], hashes: dict[str, dict[Source, str]]
) -> Iterator[BadSample]:
    """Samples of a later split whose medium, by content, or whose id is in an earlier one."""
    known: dict[str, tuple[str, Source]] = {}
    owners: dict[str, str] = {}
    for split, samples in splits.items():
        for sample in samples:
            earlier, media = known.get(hashes[split].get(sample.media or "", ""), (split, ""))
            owner = owners.setdefault(sample.id, split)
            if earlier != split:
                reason = f"the same file as {earlier} medium '{media}'"
                yield BadSample(sample.id, str(sample.media), reason)
            elif owner != split:
                yield BadSample(sample.id, split, f"the id is in {owner} too")
        for media, digest in hashes[split].items():
            known.setdefault(digest, (split, media))


def _check_pool(path: str, samples: Sequence[VideoSample]) -> Iterator[BadSample]:
    from lit_vdistill.pool.box_scale import box_scale
    from lit_vdistill.pool.store import PoolStore

    try:
        pools = PoolStore(path).load()
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: pool_path (data.sources.pool_path): {error}") from error
    ids = {sample.id for sample in samples}
    sizes = Counter(len(pool) for pool in pools.values())
    sys.stdout.write(f"teacher pool: {len(pools)} samples, responses a sample {dict(sizes)}\n")
    if (scale := box_scale(samples, pools)) is not None:
        sys.stdout.write(f"teacher pool: {scale}\n")
    yield from _unparsable(path, [response for pool in pools.values() for response in pool])
    yield from (
        BadSample(key, path, "matches no training sample") for key in pools if key not in ids
    )
    yield from (BadSample(key, path, "has no teacher response") for key in ids if key not in pools)


def _report_blind(
    path: str, samples: Sequence[VideoSample], quality_from: float, kept: str | None
) -> None:
    from lit_vdistill.data.blind import report_needless

    try:
        for line in report_needless(path, samples, quality_from, kept):
            sys.stdout.write(f"{line}\n")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: blind: {error}") from error


def _unparsable(path: str, responses: Sequence[TeacherResponse]) -> Iterator[BadSample]:
    """Say how many responses have their envelope; where none has, the pool is of bare texts."""
    if not responses:
        yield BadSample("-", path, "the pool holds no response")
        return
    causes = Counter(parse_response(response.text).problem for response in responses)
    count = causes.pop(None, 0)
    rate = f"{count} of {len(responses)} responses ({count / len(responses):.1%}) can be parsed"
    sys.stdout.write(f"teacher pool: {rate}{f', others: {dict(causes)}' if causes else ''}\n")
    if count == 0:
        reason = (
            "bare texts without <think>…</think><answer>…</answer>, so that every quality is 0: ask"
            " the teacher for the envelope, or put it around its answers"
        )
        yield BadSample("-", path, f"{rate}: {reason}")
