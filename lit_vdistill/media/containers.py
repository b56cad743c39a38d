"""What a container says of its pictures, read without decoding: the truth decoders are held to.

Only containers that hold their own data are opened: a playlist or a concat script names other
files, which may lie anywhere.
"""

import bisect
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import av
from av.container import InputContainer
from av.error import ArgumentError, InvalidDataError
from av.video.stream import VideoStream

FORMATS = (
    "mov", "matroska", "avi", "flv", "mpeg", "mpegts", "asf", "ogg", "nut", "ivf", "mxf", "gif",
)  # fmt: skip
"""FFmpeg's names; `mov` is mp4, m4v and 3gp too, `matroska` webm, `mpeg` mpg and vob, `asf` wmv."""
WITHOUT_PTS = ("avi",)
"""Containers that store the order of decoding alone; FFmpeg makes up times of display for them."""
MOST_MISSING = 0.1
"""A file may end this part of its length, or `SHORTEST_CUT_S`, before the end that it states."""
SHORTEST_CUT_S = 0.5


class DamagedError(ValueError):
    """A file that is not whole, so that no decoder can read what it should hold."""


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    is_key: bool
    is_shown: bool


@dataclass(frozen=True)
class Timeline:
    """When the pictures of a video show."""

    ticks: list[int]
    """Times of display in the stream's own unit, in order."""
    keys: list[int]
    """Those at which decoding can start."""
    seek_to: int
    """Where a jump lands on the first packet."""
    zero: Fraction
    """Seconds at which the container's clock starts."""
    unit: Fraction
    """Seconds a tick."""
    is_by_order: bool
    """Whether the container stores no times of display: the nth picture has the nth time."""
    has_early_pictures: bool
    """Whether pictures follow their key frame in the file and show before it (open groups)."""
    has_hidden_pictures: bool
    """Whether an edit list hides pictures, which others need in order to be decoded."""

    def time_s(self, tick: int) -> float:
        """Seconds from the container's start."""
        return float(tick * self.unit - self.zero)

    def key_before(self, tick: int) -> int | None:
        """The last key frame that shows at or before a time."""
        index = bisect.bisect_right(self.keys, tick)
        return self.keys[index - 1] if index else None


@contextlib.contextmanager
def open_video(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A container and its main video stream.

    Raises:
        ValueError: When the file is of no kind in `FORMATS`, or holds no video.
    """
    # The protocol too: no byte comes from elsewhere, whatever a container refers to.
    limits = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    try:
        container = av.open(path, options=limits)
    except (ArgumentError, InvalidDataError) as error:
        kinds = ", ".join(FORMATS)
        raise ValueError(f"not one of the containers that are read ({kinds}): {error}") from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            raise ValueError("the file holds no video")
        if stream.disposition & stream.disposition.attached_pic:
            raise ValueError("the file holds a cover picture, no video")
        stream.thread_count = 1
        yield container, stream


def read_timeline(container: InputContainer, stream: VideoStream) -> Timeline:
    """Read all packets of a stream, and leave the container at its end.

    Raises:
        DamagedError: When they end before the end that the file states.
        ValueError: When there are none, or when they have no times.
    """
    packets = [
        _Packet(p.pts, p.dts, p.is_keyframe, not p.is_discard)
        for p in container.demux(stream)
        if p.size
    ]
    # Nothing can be decoded before the first key frame.
    first = next((i for i, packet in enumerate(packets) if packet.is_key), 0)
    packets = packets[first:]
    shown = [packet for packet in packets if packet.is_shown]
    if not shown:
        raise ValueError("the file holds no pictures")
    has_pts = all(p.pts is not None for p in packets) and container.format.name not in WITHOUT_PTS
    stored = [p.pts if has_pts else p.dts for p in shown]
    ticks = sorted({tick for tick in stored if tick is not None})
    if not ticks or (not has_pts and len(ticks) < len(shown)):
        raise ValueError("the container does not say when its pictures show")
    unit = Fraction(stream.time_base or 0)
    _check_length(container, stream, ticks, unit)
    return Timeline(
        ticks=ticks,
        keys=sorted(p.pts for p in packets if p.is_key and p.pts is not None) if has_pts else [],
        seek_to=min(t for p in packets for t in (p.pts, p.dts) if t is not None),
        zero=_zero(container, ticks[0] * unit),
        unit=unit,
        is_by_order=not has_pts,
        has_early_pictures=has_pts and _has_early(packets),
        has_hidden_pictures=len(shown) < len(packets),
    )


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a stored pixel over its height; one where nothing is said."""
    return Fraction(stream.sample_aspect_ratio or 1)


def _has_early(packets: list[_Packet]) -> bool:
    key = None
    for packet in packets:
        if packet.is_key:
            key = packet.pts
        elif key is not None and packet.pts is not None and packet.pts < key:
            return True
    return False


def _zero(container: InputContainer, first: Fraction) -> Fraction:
    """Where players start: some containers' clocks start at any time, none before the sound."""
    start = max(Fraction(0), Fraction(container.start_time or 0, av.time_base))
    # The container's start is in whole microseconds.
    return first if abs(start - first) < Fraction(1, 100_000) else min(start, first)


def _check_length(
    container: InputContainer, stream: VideoStream, ticks: list[int], unit: Fraction
) -> None:
    """A download that broke off holds true pictures, but not the video that was annotated."""
    whole = _stated_length(container, stream)
    if whole is None or len(ticks) < 2:
        return
    # The last picture lasts about as long as the others. Some containers count from zero on.
    span = ticks[-1] - ticks[0]
    end = float(unit * max(ticks[-1] + span / (len(ticks) - 1), span))
    if end < whole - max(MOST_MISSING * whole, SHORTEST_CUT_S):
        raise DamagedError(f"the file is cut off: pictures end at {end:.2f} of {whole:.2f} s")


def _stated_length(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds of video that the header promises, where it does."""
    if container.format.name == "avi" and stream.frames and stream.time_base is not None:
        # FFmpeg cuts the duration down to what is there; a tick is a frame.
        return float(stream.frames * stream.time_base)
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    stated = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if stated:
        hours, minutes, seconds = stated.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    # Sound may well go on after the last picture.
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return None
