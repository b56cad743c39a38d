"""Reading frames with PyAV: those of given times, decoded from the key frame before each."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lit_vdistill.media.containers import (
    DamagedError,
    Timeline,
    open_video,
    pixel_aspect,
    read_timeline,
)
from lit_vdistill.media.frames import FramePlan, Reading, Shaper
from lit_vdistill.media.pictures import Limits, Turn

SEEKABLE = ("mov", "matroska", "flv", "nut", "ivf", "asf")
"""Containers that store the time of each packet, so that it is the same after a jump."""


class MissingPicture(Exception):
    """No picture came out at a time that a packet has."""


def read_frames(path: str, plan: FramePlan, limits: Limits) -> Reading:
    """The frames of a video that a plan chooses, with their times.

    Raises:
        DamagedError: When the file is cut off, or a picture that is wanted is damaged.
        ValueError: When the file holds no pictures, or does not say when they show.
        FFmpegError: When FFmpeg cannot read it.
    """
    with open_video(path) as (container, stream):
        timeline = read_timeline(container, stream)
        shaper = Shaper(limits, pixel_aspect(stream))
        if timeline.keys and container.format.name.split(",")[0] in SEEKABLE:
            wanted, length_s = plan.choose(timeline.ticks, timeline.time_s)
            try:
                found = _at(container, stream, timeline, wanted)
                frames = [_shaped(frame, shaper) for frame in found]
            except (MissingPicture, FFmpegError):
                # Some packets show nothing, or a jump failed: decoding all of it tells.
                pass
            else:
                times_s = [timeline.time_s(tick) for tick in wanted]
                return Reading(np.stack(frames), times_s, length_s)
        return _in_order(container, stream, timeline, plan, shaper)


def turn_of(frame: VideoFrame) -> Turn:
    """How the picture of a frame has to be turned, by its display matrix."""
    if Type.DISPLAYMATRIX not in frame.side_data:
        return Turn()
    # Its stub knows string keys alone.
    matrix = bytes(frame.side_data[Type.DISPLAYMATRIX])  # type: ignore[literal-required]
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    # A stored point (x, y) shows at (a x + c y, b x + d y), up to a shift.
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, is_mirrored=c < 0, is_upended=b < 0)
    return Turn(False, is_mirrored=a < 0, is_upended=d < 0)


def _shaped(frame: VideoFrame, shaper: Shaper) -> np.ndarray:
    return shaper.shape(frame.to_ndarray(format="rgb24"), turn_of(frame))


def _at(
    container: InputContainer, stream: VideoStream, timeline: Timeline, wanted: list[int]
) -> Iterator[VideoFrame]:
    """The pictures that show at given times, in order."""
    decoded: Iterator[tuple[VideoFrame, bool]] = iter(())
    position: int | None = None
    for tick in wanted:
        key = timeline.key_before(tick)
        if key is not None and (position is None or key > position):
            decoded = _decoded(container, stream, timeline, key)
        frame, is_whole = _first_from(decoded, tick)
        position = frame.pts
        if position != tick:
            raise MissingPicture
        yield _whole(frame, is_whole, timeline.time_s(tick))


def _first_from(decoded: Iterator[tuple[VideoFrame, bool]], tick: int) -> tuple[VideoFrame, bool]:
    for frame, is_whole in decoded:
        if frame.pts is not None and frame.pts >= tick:
            return frame, is_whole
    raise MissingPicture


def _in_order(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    plan: FramePlan,
    shaper: Shaper,
) -> Reading:
    """Decode everything, again if other pictures come out than the packets promise."""
    known = list(range(len(timeline.ticks))) if timeline.is_by_order else timeline.ticks
    for _ in range(2):
        wanted, length_s = plan.choose(known, partial(_time_s, timeline))
        seen: list[int] = []
        frames: dict[int, np.ndarray] = {}
        for frame, is_whole in _decoded(container, stream, timeline, None):
            name = len(seen) if timeline.is_by_order else frame.pts
            if name is None:
                raise ValueError("a picture came out without a time")
            seen.append(name)
            if name in wanted:
                whole = _whole(frame, is_whole, _time_s(timeline, name))
                frames[name] = _shaped(whole, shaper)
        _check_order(seen, timeline)
        if len(frames) == len(wanted):
            times_s = [_time_s(timeline, name) for name in wanted]
            return Reading(np.stack([frames[name] for name in wanted]), times_s, length_s)
        known = seen
    raise ValueError("decoding it twice gave different pictures")


def _time_s(timeline: Timeline, name: int) -> float:
    """The time of a picture that is named by its place or by its own tick."""
    if not timeline.is_by_order:
        return timeline.time_s(name)
    # One picture too many is an error in the end; here it only must not fail.
    return timeline.time_s(timeline.ticks[min(name, len(timeline.ticks) - 1)])


def _check_order(seen: list[int], timeline: Timeline) -> None:
    if not seen:
        raise ValueError("no picture can be decoded")
    if timeline.is_by_order:
        # A packed stream of Xvid ends in a packet without a picture.
        if not 0 <= len(timeline.ticks) - len(seen) <= 1:
            raise ValueError(f"{len(seen)} pictures come out of {len(timeline.ticks)} packets")
        return
    if any(b <= a for a, b in zip(seen, seen[1:], strict=False)):
        raise ValueError("the pictures' times do not increase")
    if not set(timeline.ticks).issuperset(seen):
        raise ValueError("the pictures' times are not those of the container's packets")


def _decoded(
    container: InputContainer, stream: VideoStream, timeline: Timeline, key: int | None
) -> Iterator[tuple[VideoFrame, bool]]:
    """Pictures from a key frame on, or all; and whether each depends on no damaged one.

    Raises:
        MissingPicture: When no key frame at or before the given one was found.
    """
    container.seek(timeline.seek_to if key is None else key, stream=stream)
    is_started, is_whole = False, True
    for packet in container.demux(stream):
        if key is not None and not is_started:
            if not packet.is_keyframe:
                continue
            if packet.pts is None or packet.pts > key or packet.pts not in timeline.keys:
                raise MissingPicture
            is_started, key = True, packet.pts
        if packet.dts is not None and not packet.size:
            # "As before": decoders take none, but the last, which asks for what they still hold.
            continue
        for frame in packet.decode():
            assert isinstance(frame, VideoFrame)
            if key is not None and (frame.pts is None or frame.pts < key):
                # It needs pictures before the key frame, which the jump left out.
                continue
            is_whole = not frame.is_corrupt and (is_whole or frame.key_frame)
            yield frame, is_whole


def _whole(frame: VideoFrame, is_whole: bool, time_s: float) -> VideoFrame:
    if not is_whole:
        raise DamagedError(f"the picture at {time_s:.2f} s is damaged")
    return frame
