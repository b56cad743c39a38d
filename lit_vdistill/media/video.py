"""One frame plan a medium, made once: what is decoded here feeds every network and every reward."""

import hashlib
import json
import logging
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np

from lit_vdistill.media.decoder_process import DecoderProcess, MediaError
from lit_vdistill.media.frames import evenly
from lit_vdistill.types import Clip, FrameFiles, Medium, Source

logger = logging.getLogger(__name__)
_CACHE_VERSION = 2
"""Goes up with every change to `media/` that changes frames or times."""


@dataclass(frozen=True)
class FrameConfig:
    """Which frames are read and how large they are."""

    num_frames: int = 16
    """Frames a video, evenly from the first to the last (R-MSD §4.1.3 trains with 16)."""
    max_pixels: int = 105_369
    """Largest width × height a frame; larger ones are scaled down, none is scaled up."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """`pyav`: PyAV alone; `auto`: PyAV, then decord where PyAV fails; `decord`: decord, then PyAV
    where decord fails or would read wrong pictures (figures: `lit_vdistill/media/README.md`)."""
    decode_timeout_s: float = 60.0
    """A file that takes longer counts as unreadable; its decoder is killed."""


class MediaReader:
    """Reads media below a root, each once, into a cache on disk."""

    def __init__(
        self, root: str | Path, config: FrameConfig, *, factor: int, cache_dir: str | Path | None
    ) -> None:
        """Set up; the decoder process starts with the first medium that is not cached.

        Args:
            root: Media paths are below it, and may not leave it.
            config: The frame plan.
            factor: Width and height become multiples of it: patch size times merge size.
            cache_dir: Where decoded frames are kept; None keeps nothing.

        Raises:
            ValueError: When `max_pixels` leaves no room for one patch.
        """
        if config.max_pixels < factor**2:
            raise ValueError(
                f"data.frames.max_pixels ({config.max_pixels}) is less than one patch of the"
                f" model has: {factor**2}; raise it"
            )
        self.root = Path(root)
        self.config = config
        self.factor = factor
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._decoder = DecoderProcess()

    def read(self, media: Source, kind: str) -> Medium:
        """Frames and their true times.

        Args:
            media: Path below the root, a part of such a file, or frames sampled elsewhere.
            kind: `"video"` or `"image"`.

        Raises:
            MediaError: When the path leaves the root or the file cannot be decoded in time.
        """
        if isinstance(media, FrameFiles):
            return self.read_frames(media)
        window = (media.start_s, media.end_s) if isinstance(media, Clip) else None
        path = self.resolve(media.file if isinstance(media, Clip) else media)
        cached = self._cache_path(path, kind, window)
        known = None if cached is None else _read_cached(cached)
        if known is not None:
            return _medium(kind, *known)
        header, frames = self._decoder.decode(
            {
                "path": str(path),
                "kind": kind,
                "num_frames": self.config.num_frames,
                "factor": self.factor,
                "max_pixels": self.config.max_pixels,
                "decoder": self.config.decoder,
                "window": window,
            },
            self.config.decode_timeout_s,
        )
        for reason in header["reasons"]:
            logger.warning("%s: read with %s instead (%s)", path, header["backend"], reason)
        if cached is not None:
            _write_atomically(cached, frames=frames, times_s=np.array(header["times_s"]))
        return _medium(kind, frames, header["times_s"])

    def read_frames(self, source: FrameFiles) -> Medium:
        """Frames that were sampled elsewhere, with the times that they were given.

        Of more than `num_frames`, as many are taken as of a video, from the first to the last.

        Raises:
            MediaError: When an image cannot be read, or is not as large as the others.
        """
        chosen = evenly(range(len(source.files)), self.config.num_frames)
        frames = [self.read(source.files[i], "image").frames[0] for i in chosen]
        for i, frame in zip(chosen, frames, strict=True):
            if frame.shape != frames[0].shape:
                sizes = [f"{shape[1]} x {shape[0]}" for shape in (frame.shape, frames[0].shape)]
                raise MediaError(
                    f"frames of one video must have one size, {source.files[i]} has {sizes[0]} "
                    f"and {source.files[0]} {sizes[1]} pixels"
                )
        return _medium("video", np.stack(frames), [source.times_s[i] for i in chosen])

    def largest(self, kind: str) -> Medium:
        """An empty medium as large as `read` may return, a minute between its frames."""
        width = self.config.max_pixels // self.factor**2 * self.factor
        count = 1 if kind == "image" else self.config.num_frames
        frames = np.zeros((count, self.factor, width, 3), dtype=np.uint8)
        return _medium(kind, frames, [59.9 * i for i in range(count)])

    def resolve(self, media: str) -> Path:
        """The file of a medium.

        Raises:
            MediaError: When it lies outside the root, or no file can have its name.
        """
        root = self.root.resolve()
        try:
            path = (root / media).resolve()
        except ValueError as error:
            # NUL, or half a surrogate pair.
            raise MediaError(f"no file can have this name: {media!r}") from error
        if not path.is_relative_to(root):
            raise MediaError(f"the path leaves data.media_root ({self.root})")
        return path

    def _cache_path(self, path: Path, kind: str, window: tuple[float, float] | None) -> Path | None:
        """Named by everything that decides the frames: file, size, change time, plan."""
        if self.cache_dir is None or not path.is_file():
            return None
        stat = path.stat()
        key = [_CACHE_VERSION, str(path), stat.st_size, stat.st_mtime_ns, kind, self.factor]
        key += [self.config.num_frames, self.config.max_pixels, self.config.decoder]
        key += window or ()
        name = hashlib.blake2b(json.dumps(key).encode(), digest_size=16).hexdigest()
        return self.cache_dir / name[:2] / f"{name}.npz"


def _medium(kind: str, frames: np.ndarray, times_s: list[float]) -> Medium:
    return Medium("image" if kind == "image" else "video", frames, tuple(times_s))


def _read_cached(path: Path) -> tuple[np.ndarray, list[float]] | None:
    """Frames and times; None where they are not there, or are damaged and must be decoded again."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frames, times_s = arrays["frames"], arrays["times_s"].tolist()
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        logger.warning("%s: damaged (%s), decoded again", path, error)
        return None
    is_whole = frames.dtype == np.uint8 and frames.ndim == 4 and len(frames) == len(times_s) > 0
    if not is_whole:
        logger.warning("%s: no frames with their times, decoded again", path)
        return None
    return frames, times_s


def _write_atomically(path: Path, **arrays: np.ndarray) -> None:
    """Two workers may decode the same file: each writes its own, the last rename wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(file.name, path)
