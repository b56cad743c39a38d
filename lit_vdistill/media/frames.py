"""Which frames of a video are read, and what becomes of each."""

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
