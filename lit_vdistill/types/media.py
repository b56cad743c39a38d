"""Where media are, and what was read of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a longer video: `Clip("film.mp4", 600.0, 630.0)`. Its times begin with 0."""

    file: str
    """Path below `data.media_root`."""
    start_s: float
    """Seconds from the start of the file."""
    end_s: float

    def __str__(self) -> str:
        """For reports."""
        return f"{self.file}, {self.start_s} s to {self.end_s} s"


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """A video whose frames were sampled elsewhere: `FrameFiles(("a.jpg", "b.jpg"), (0.0, 1.5))`."""

    files: tuple[str, ...]
    """Images below `data.media_root`, in the order of their times."""
    times_s: tuple[float, ...]
    """Seconds from the start of the video, one a file."""

    def __str__(self) -> str:
        """For reports."""
        return f"{self.files[0]} … {self.files[-1]}, {len(self.files)} frames"


Source = str | Clip | FrameFiles
"""Where a medium is; a text is the path of a file below `data.media_root`. Two samples have the
same medium where these are equal."""


@dataclass(frozen=True, slots=True)
class Medium:
    """Frames as the network sees them, with their true times."""

    kind: Literal["video", "image"]
    frames: UInt8[np.ndarray, "frames height width 3"]
    times_s: tuple[float, ...]
    """Seconds from the start of the video, one a frame, read from the stream."""
    length_s: float = 0.0
    """How long the video lasts of which they are; 0 for an image."""
