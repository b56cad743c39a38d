"""Frames of a video with boxes on them, and the time line below on which segments are drawn."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lit_vdistill.types import Box, Span

TRUE = "annotated"
"""The kind of what an annotator marked; what the i-th student says is of kind `series(i)`."""
NUM_SERIES = 6
"""Colours, marks and dashes that `page.css` and `charts.py` tell apart; then they begin again."""
_WIDTH, _QUALITY = 320, 82


def series(index: int) -> str:
    """The class of the i-th student, run or curve, from 0: its colour in every part of a page."""
    return f"s{index % NUM_SERIES + 1}"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture within the page: `Picture("data:image/jpeg;base64,…", 448, 252)`."""

    uri: str
    width: int
    """Units along its side in which boxes on it are written, whatever its own size."""
    height: int

    @property
    def is_tiny(self) -> bool:
        """Whether its pixels are to be seen as they are."""
        return self.width < 160


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box on a frame: `DrawnBox("s1", "dog", (8, 4, 20, 16))`, in units of the picture."""

    kind: str
    """`annotated`, or a `series`."""
    name: str
    box: Box

    @property
    def place(self) -> dict[str, str]:
        """Attributes of its rectangle; an inverted box has no width or no height."""
        x1, y1, x2, y2 = self.box
        sides = {"x": x1, "y": y1, "width": max(x2 - x1, 0), "height": max(y2 - y1, 0)}
        return {name: f"{value:g}" for name, value in sides.items()}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame at its time."""

    picture: Picture
    time_s: float | None
    """None for an image."""
    boxes: tuple[DrawnBox, ...] = ()


@dataclass(frozen=True, slots=True)
class DrawnSpan:
    """A segment on the time line: `DrawnSpan("annotated", "true", (2.0, 5.0))`."""

    kind: str
    name: str
    span: Span
    """Seconds; one that is inverted is named, and has no length."""


@dataclass(frozen=True, slots=True)
class Film:
    """A strip of frames over a time line from 0 to the end of the video."""

    frames: tuple[Frame, ...]
    length_s: float
    """Of the whole video; 0 = an image, without a time line."""
    spans: tuple[DrawnSpan, ...] = ()

    def share(self, time_s: float) -> float:
        """Where a time lies on the line, in per cent; what lies behind its end is at its end."""
        return min(max(100 * time_s / self.length_s, 0.0), 100.0) if self.length_s else 0.0


def thumbnail(frame: UInt8[np.ndarray, "height width 3"]) -> Picture:
    """A frame as a JPEG within the page, at most 320 pixels wide; its units stay the frame's."""
    height, width = frame.shape[:2]
    image = Image.fromarray(frame)
    if width > _WIDTH:
        image = image.resize((_WIDTH, max(1, round(height * _WIDTH / width))))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=_QUALITY)
    return Picture(as_uri(file.getvalue(), "jpeg"), width, height)


def as_uri(data: bytes, kind: str) -> str:
    """A picture's bytes as an address that needs no request."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
