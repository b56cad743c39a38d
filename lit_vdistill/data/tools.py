"""Command-line tools about data; heavy imports wait until a tool runs."""

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

from lit_vdistill.readers.records import MAX_TEXT_CHARS, BadSample, read_records
from lit_vdistill.types import VideoSample
from lit_vdistill.world.config import WorldConfig


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
    num_frames: int = 16,
    decode_timeout_s: float = 60.0,
    max_text_chars: int = MAX_TEXT_CHARS,
) -> None:
    """Check records and decode every medium once; exits with 1 when something is wrong.

    Args:
        train_path: Training records.
        media_root: Media paths are below it.
        val_path: Validation records; no medium and no id of theirs may be in training.
        test_path: Test records; theirs may be in neither.
        pool_path: Teacher pool of the training records.
        num_frames: Frames to decode of each video.
        decode_timeout_s: A medium that takes longer is reported.
        max_text_chars: A question that has more characters with its options is reported.
    """
    splits: dict[str, list[VideoSample]] = {}
    problems: list[BadSample] = []
    for split, path in (("train", train_path), ("val", val_path), ("test", test_path)):
        if path is not None:
            splits[split], bad = read_records(path, max_text_chars)
            problems += bad
    tasks = Counter(str(sample.task) for samples in splits.values() for sample in samples)
    sys.stdout.write(f"{sum(tasks.values())} records: {dict(sorted(tasks.items()))}\n")
    hashes: dict[str, dict[str, str]] = {split: {} for split in splits}
    for split, samples in splits.items():
        problems += _check_media(samples, media_root, num_frames, decode_timeout_s, hashes[split])
        problems += _duplicates(samples)
    problems += _overlap(splits, hashes)
    if pool_path is not None:
        problems += _check_pool(pool_path, splits["train"])
    for problem in problems:
        sys.stdout.write(f"  {problem}\n")
    sys.stdout.write(f"{len(problems)} problems\n")
    if problems:
        raise SystemExit(1)


def _check_media(
    samples: list[VideoSample], root: str, num_frames: int, timeout_s: float, hashes: dict[str, str]
) -> Iterator[BadSample]:
    """Decode each medium once, and compare annotated times with its last frame."""
    from lit_vdistill.media.video import FrameConfig, MediaError, MediaReader

    config = FrameConfig(num_frames=num_frames, decode_timeout_s=timeout_s)
    reader = MediaReader(root, config, factor=1, cache_dir=None)
    by_media = defaultdict(list)
    for sample in samples:
        if sample.media is not None:
            by_media[sample.media].append(sample)
    for media, users in by_media.items():
        try:
            times = reader.read(media, users[0].media_type).times_s
        except MediaError as error:
            yield from (BadSample(sample.id, media, str(error)) for sample in users)
            continue
        hashes[media] = hashlib.sha256(reader.resolve(media).read_bytes()).hexdigest()
        # The last frame lasts about as long as the others; one gap of sampling is tolerance.
        last = times[-1] + (times[-1] - times[0]) / max(len(times) - 1, 1)
        for sample in users:
            late = [end for _, end in sample.evidence.spans if end > last]
            late += [b.time_s for b in sample.evidence.boxes if b.time_s and b.time_s > last]
            if late and sample.media_type == "video":
                reason = f"evidence at {late[0]} s, but the video ends before {last:.2f} s"
                yield BadSample(sample.id, media, reason)


def _duplicates(samples: list[VideoSample]) -> Iterator[BadSample]:
    first: dict[tuple[str | None, str, tuple[str, ...]], str] = {}
    for sample in samples:
        key = (sample.media, sample.question, sample.options)
        if key in first:
            reason = f"asks the same about the same medium as '{first[key]}'"
            yield BadSample(sample.id, str(sample.media), reason)
        first.setdefault(key, sample.id)


def _overlap(
    splits: dict[str, list[VideoSample]], hashes: dict[str, dict[str, str]]
) -> Iterator[BadSample]:
    """Samples of a later split whose medium, by content, or whose id is in an earlier one."""
    known: dict[str, tuple[str, str]] = {}
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


def _check_pool(path: str, samples: list[VideoSample]) -> Iterator[BadSample]:
    from lit_vdistill.pool.store import PoolStore

    pools = PoolStore(path).load()
    ids = {sample.id for sample in samples}
    sizes = Counter(len(pool) for pool in pools.values())
    sys.stdout.write(f"teacher pool: {len(pools)} samples, responses a sample {dict(sizes)}\n")
    yield from (
        BadSample(key, path, "matches no training sample") for key in pools if key not in ids
    )
    yield from (BadSample(key, path, "has no teacher response") for key in ids if key not in pools)
