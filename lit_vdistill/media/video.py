"""One frame plan a medium, made once: what is decoded here feeds every network and every reward."""

import hashlib
import json
import logging
import math
import os
import tempfile
import zlib
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from lit_vdistill.media.decoder_process import DecoderProcess, MediaError
from lit_vdistill.media.frames import FramePlan, Window
from lit_vdistill.media.pictures import Limits
from lit_vdistill.types import FrameFiles, Medium, Source

logger = logging.getLogger(__name__)
_CACHE_VERSION = 3
"""Goes up with every change to `media/` that changes frames or times."""


@dataclass(frozen=True)
class FrameConfig:
    """Which frames are read and how large they are."""

    max_frames: int = 16
    """Frames of a video at the most, evenly from the first to the last (R-MSD §4.1.3: 16)."""
    fps: float | None = None
    """Frames a second where that is fewer (VISD: 2); null reads `max_frames` of every video."""
    min_frames: int = 4
    """Frames of a video at the least where `fps` decides."""
    max_pixels: int = 105_369
    """Largest width × height a frame; larger ones are scaled down."""
    min_pixels: int = 0
    """Smaller frames are scaled up to it (VISD: 100 352)."""
    image_max_pixels: int | None = None
    """The largest of an image; null as of a frame (VISD: 200 704)."""
    image_min_pixels: int = 0
    """Smaller images are scaled up to it (VISD: 3 136)."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """`pyav`: PyAV alone; `auto`: PyAV, then decord where PyAV fails; `decord`: decord, then PyAV
    where decord fails or would read wrong pictures (figures: `lit_vdistill/media/README.md`)."""
    decode_timeout_s: float = 60.0
    """A file that takes longer counts as unreadable; its decoder is killed."""

    def __post_init__(self) -> None:
        """Refuse a plan that no video fits.

        Raises:
            ValueError: Names the keys, what came and what to set.
        """
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"data.frames.fps must be above 0, or null, got {self.fps}")
        if self.max_frames < 1 or (self.fps and not 1 <= self.min_frames <= self.max_frames):
            raise ValueError(
                "data.frames needs 1 <= min_frames <= max_frames, got "
                f"{self.min_frames} and {self.max_frames}"
            )
        for key, limits in (("", self.limits("video", 1)), ("image_", self.limits("image", 1))):
            if limits.min_pixels > limits.max_pixels:
                raise ValueError(
                    f"data.frames.{key}min_pixels {limits.min_pixels} is above {key}max_pixels "
                    f"{limits.max_pixels}; lower it"
                )

    def limits(self, kind: str, factor: int) -> Limits:
        """What the size of a `video`'s frame or of an `image` obeys; multiples of a factor."""
        if kind == "video":
            return Limits(factor, self.max_pixels, self.min_pixels)
        return Limits(factor, self.image_max_pixels or self.max_pixels, self.image_min_pixels)

    @property
    def plan(self) -> FramePlan:
        """Which frames of a video are read."""
        return FramePlan(self.max_frames, self.fps, self.min_frames if self.fps else 1)


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
        for key, kind in (("max_pixels", "video"), ("image_max_pixels", "image")):
            most = config.limits(kind, factor).max_pixels
            if most < factor**2:
                raise ValueError(
                    f"data.frames.{key} ({most}) is less than one patch of the model has: "
                    f"{factor**2}; raise it"
                )
        self.root = Path(root)
        self.config = config
        self.factor = factor
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._decoder = DecoderProcess()

    def planned(self, config: FrameConfig) -> "MediaReader":
        """A reader of the same files by the same decoder process, with another plan."""
        other = copy(self)
        other.config = config
        return other

    def read(
        self,
        media: Source,
        kind: str,
        *,
        at_s: tuple[float, ...] = (),
        window: Window | None = None,
    ) -> Medium:
        """Frames and their true times.

        Args:
            media: Path below the root, a part of such a file, or frames sampled elsewhere.
            kind: `"video"` or `"image"`.
            at_s: Instead of the planned frames those that show at these times, each once, in order.
            window: The part of the medium that is read, whose times stay those of the medium.

        Raises:
            MediaError: When the path leaves the root or the file cannot be decoded in time.
        """
        if kind == "image":
            assert isinstance(media, str), "an image is a file"
            return Medium("image", *self._file(media, kind, None))
        plan = self.config.plan._replace(at_s=at_s, window=window)
        if isinstance(media, FrameFiles):
            return self._frame_files(media, plan)
        if isinstance(media, str):
            return Medium("video", *self._file(media, kind, plan))
        # The times of a clip begin with it, as if it had been cut out.
        start, end = media.start_s, media.end_s
        if window is not None:
            end = min(end, media.start_s + window[1])
            start += window[0]
        at_s = tuple(media.start_s + time_s for time_s in at_s)
        plan = plan._replace(window=(start, end), at_s=at_s)
        frames, times_s, length_s = self._file(media.file, kind, plan)
        return Medium("video", frames, tuple(t - media.start_s for t in times_s), length_s)

    def _file(
        self, media: str, kind: str, plan: FramePlan | None
    ) -> tuple[np.ndarray, tuple[float, ...], float]:
        """Frames of a file, their times, and how long all of it shows; of an image without a plan.

        Args:
            media: Path below the root.
            kind: Whose limits its size obeys.
            plan: Which frames of a video are read.
        """
        path, limits = self.resolve(media), self.config.limits(kind, self.factor)
        asked = {"plan": plan, "limits": limits, "decoder": self.config.decoder}
        cached = self._cache_path(path, asked)
        known = None if cached is None else _read_cached(cached)
        if known is not None:
            return known
        header, frames = self._decoder.decode(
            {"path": str(path), **asked}, self.config.decode_timeout_s
        )
        for reason in header["reasons"]:
            logger.warning("%s: read with %s instead (%s)", path, header["backend"], reason)
        times_s, length_s = header["times_s"], header["length_s"]
        if cached is not None:
            _write_atomically(
                cached, frames=frames, times_s=np.array(times_s), length_s=np.array(length_s)
            )
        return frames, tuple(times_s), length_s

    def _frame_files(self, source: FrameFiles, plan: FramePlan) -> Medium:
        """Frames that were sampled elsewhere, with the times that they were given.

        Of these a plan chooses as of a video's own.

        Raises:
            MediaError: When an image cannot be read, or is not as large as the others.
        """
        chosen, length_s = plan.choose(range(len(source.files)), source.times_s.__getitem__)
        frames = [self._file(source.files[i], "video", None)[0][0] for i in chosen]
        for i, frame in zip(chosen, frames, strict=True):
            if frame.shape != frames[0].shape:
                sizes = [f"{shape[1]} x {shape[0]}" for shape in (frame.shape, frames[0].shape)]
                raise MediaError(
                    f"frames of one video must have one size, {source.files[i]} has {sizes[0]} "
                    f"and {source.files[0]} {sizes[1]} pixels"
                )
        times_s = tuple(source.times_s[i] for i in chosen)
        return Medium("video", np.stack(frames), times_s, length_s)

    def largest(self, kind: Literal["video", "image"]) -> Medium:
        """An empty medium as large as `read` may return, a minute between its frames."""
        width = self.config.limits(kind, self.factor).most_tiles() * self.factor
        count = 1 if kind == "image" else self.config.max_frames
        frames = np.zeros((count, self.factor, width, 3), dtype=np.uint8)
        return Medium(kind, frames, tuple(59.9 * i for i in range(count)), 59.9 * count)

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

    def _cache_path(self, path: Path, asked: Mapping[str, Any]) -> Path | None:
        """Named by everything that decides the frames: file, size, change time, plan, limits."""
        if self.cache_dir is None or not path.is_file():
            return None
        stat = path.stat()
        key = [_CACHE_VERSION, str(path), stat.st_size, stat.st_mtime_ns, asked]
        name = hashlib.blake2b(json.dumps(key).encode(), digest_size=16).hexdigest()
        return self.cache_dir / name[:2] / f"{name}.npz"


def _read_cached(path: Path) -> tuple[np.ndarray, tuple[float, ...], float] | None:
    """Frames, times and length; None where they are missing, or damaged and must be read again."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frames, times_s = arrays["frames"], tuple(arrays["times_s"].tolist())
            length_s = float(arrays["length_s"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        logger.warning("%s: damaged (%s), decoded again", path, error)
        return None
    is_whole = frames.dtype == np.uint8 and frames.ndim == 4 and len(frames) == len(times_s) > 0
    if not is_whole:
        logger.warning("%s: no frames with their times, decoded again", path)
        return None
    return frames, times_s, length_s


def _write_atomically(path: Path, **arrays: np.ndarray) -> None:
    """Two workers may decode the same file: each writes its own, the last rename wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(file.name, path)
