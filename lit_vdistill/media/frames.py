"""Which frames of a video are read, and what becomes of each."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np

from lit_vdistill.media.pictures import Limits, Turn, resize, stand_up

Item = TypeVar("Item")
Window = tuple[float, float]
"""The part of a video that is meant: from a time up to a later one, in seconds."""


class Reading(NamedTuple):
    """What a decoder has read."""

    frames: np.ndarray
    """uint8 `[frames, height, width, 3]`."""
    times_s: list[float]
    """Seconds from the container's start, one a frame."""
    length_s: float
    """How long all frames show from which these were chosen."""


class FramePlan(NamedTuple):
    """Which frames of a video are read: evenly spaced from the first to the last."""

    max_frames: int
    """As many, or all where there are fewer …"""
    fps: float | None = None
    """… or so many a second, an even number, as the towers of Qwen pair the frames of a video …"""
    min_frames: int = 1
    """… and at least these."""
    window: Window | None = None
    """The part that is meant, in the file's own times; None = all of it."""
    at_s: tuple[float, ...] = ()
    """Instead of all this: the frames that show at these times of the file."""

    def choose(
        self, items: Sequence[Item], time_of: Callable[[Item], float]
    ) -> tuple[list[Item], float]:
        """The frames to read, in order, each once; and how long those show that it could choose.

        Args:
            items: All frames of the video, in order.
            time_of: Seconds of a frame.

        Raises:
            ValueError: When no frame shows in the window.
        """
        shown = within(items, time_of, self.window)
        length_s = length_of(shown, time_of)
        if self.at_s:
            times_s = [time_of(item) for item in shown]
            places = {frame_at(times_s, time_s) for time_s in self.at_s}
            return [shown[place] for place in sorted(places)], length_s
        return evenly(shown, self.num_frames(length_s, len(shown))), length_s

    def num_frames(self, length_s: float, available: int) -> int:
        """How many frames a video of this length and number of frames gives."""
        if self.fps is None:
            return min(self.max_frames, available)
        count = min(
            max(int(length_s * self.fps + 1e-6), self.min_frames), self.max_frames, available
        )
        return max(1, count - count % 2)


_TICK_S = 1e-3
"""A time that was written with three digits means the frame whose time rounds to it."""


@dataclass
class Shaper:
    """Makes pictures stand up and fit, each as it is decoded: large ones are not to pile up."""

    limits: Limits
    pixel_aspect: Fraction
    size: tuple[int, int] | None = field(default=None, init=False)
    """Width and height of the video's frames, which its first one decides."""

    def shape(self, picture: np.ndarray, turn: Turn) -> np.ndarray:
        """A frame from a picture as it is stored."""
        aspect = 1 / self.pixel_aspect if turn.is_transposed else self.pixel_aspect
        frame = resize(stand_up(picture, turn), aspect, self.limits, self.size)
        self.size = (frame.shape[1], frame.shape[0])
        return frame


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Evenly spaced ones from the first to the last; all of them when there are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, count)]


def frame_at(times_s: Sequence[float], time_s: float) -> int:
    """Place of the frame that shows at a time; of the first before it, of the last behind it."""
    return max(0, bisect_right(times_s, time_s + _TICK_S) - 1)


def length_of(items: Sequence[Item], time_of: Callable[[Item], float]) -> float:
    """How long frames show: the last as long as the others on average, a single one 0 s."""
    if len(items) < 2:
        return 0.0
    return (time_of(items[-1]) - time_of(items[0])) * len(items) / (len(items) - 1)


def within(
    items: Sequence[Item], time_of: Callable[[Item], float], window: Window | None
) -> Sequence[Item]:
    """Those that show in a window; all of them without one.

    Raises:
        ValueError: When none does.
    """
    if window is None:
        return items
    start, end = window
    found = [item for item in items if start <= time_of(item) < end]
    if not found:
        last = f", the last is at {time_of(items[-1]):.2f} s" if items else ""
        raise ValueError(f"no picture shows from {start} s to {end} s{last}")
    return found
