"""Pictures as people see them: upright, of square pixels, eight bits a colour; and their size."""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

LONGEST_RATIO = 200
"""Longer pictures are refused, as the Qwen processors do."""
IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names; it knows more, some of which start other programs."""


class Limits(NamedTuple):
    """What the size of a frame obeys."""

    factor: int
    """Width and height are multiples of it."""
    max_pixels: int
    """Largest width x height; what is scaled up to `min_pixels` may pass it by a row and a column
    of the factor."""
    min_pixels: int = 0
    """Smaller pictures are scaled up to it."""

    def most_tiles(self) -> int:
        """Squares of the factor that a picture may have at the most."""
        budget, floor = self.max_pixels // self.factor**2, self.min_pixels / self.factor**2
        # A picture of `floor` squares, scaled up, with `rows` of them begun.
        narrowest = math.sqrt(floor / LONGEST_RATIO)
        begun = [
            rows * math.ceil(floor / max(rows - 1, narrowest))
            for rows in range(max(1, math.ceil(narrowest)), math.ceil(math.sqrt(floor)) + 1)
        ]
        return max([budget, *begun])


class Turn(NamedTuple):
    """How a stored picture is turned to stand upright, in this order."""

    is_transposed: bool = False
    """Rows become columns."""
    is_mirrored: bool = False
    """Left becomes right."""
    is_upended: bool = False
    """Top becomes bottom."""


def fit_size(width: int, height: int, limits: Limits) -> tuple[int, int]:
    """The nearest multiples of the factor within the limits, at least one each, ratio kept.

    As Qwen's processors round: up to the next multiple where a picture is too small, down where it
    is too large. A very long one loses its ratio, as it cannot become narrower than the factor.

    Raises:
        ValueError: When one side is more than `LONGEST_RATIO` times the other.
    """
    if max(width, height) > LONGEST_RATIO * min(width, height):
        raise ValueError(f"{width}x{height} pixels: a side is over {LONGEST_RATIO} times the other")
    factor, budget = limits.factor, limits.max_pixels // limits.factor**2
    if math.prod(max(1, round(side / factor)) for side in (width, height)) * factor**2 < (
        limits.min_pixels
    ):
        scale = math.sqrt(limits.min_pixels / (width * height))
        return math.ceil(width * scale / factor) * factor, math.ceil(
            height * scale / factor
        ) * factor
    scale = min(1.0, math.sqrt(limits.max_pixels / (width * height)))
    sides = [side * scale / factor for side in (width, height)]
    # Rounding up both sides may go over the budget.
    for whole in (round if scale == 1.0 else math.floor, math.floor):
        tiles = [max(1, whole(side)) for side in sides]
        if math.prod(tiles) <= budget:
            break
    columns, rows = (min(side, budget // min(tiles)) for side in tiles)
    return columns * factor, rows * factor


def stand_up(picture: np.ndarray, turn: Turn) -> np.ndarray:
    """A picture `[height, width, 3]` the way up in which players show it."""
    if turn.is_transposed:
        picture = picture.swapaxes(0, 1)
    if turn.is_mirrored:
        picture = picture[:, ::-1]
    return picture[::-1] if turn.is_upended else picture


def resize(
    picture: np.ndarray, pixel_aspect: Fraction, limits: Limits, size: tuple[int, int] | None
) -> np.ndarray:
    """A picture on square pixels, within the limits or of a given size.

    Args:
        picture: uint8 `[height, width, 3]`.
        pixel_aspect: Width of a pixel over its height.
        limits: What decides the size where none is given.
        size: Width and height, those of the first frame of a video.

    Raises:
        ValueError: When the picture is too long, see `fit_size`.
    """
    height, width = picture.shape[:2]
    if size is None:
        size = fit_size(max(1, round(width * pixel_aspect)), height, limits)
    if (width, height) == size:
        return np.ascontiguousarray(picture)
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def read_image(path: str, limits: Limits) -> np.ndarray:
    """The pixels of an image, `[1, height, width, 3]`; of a moving one, its first picture.

    What is transparent is white, as the Qwen processors have it.

    Raises:
        OSError: When it cannot be read.
        ValueError: When its pixels have no range that is known, or it is too long.
    """
    with Image.open(path, formats=IMAGE_FORMATS) as image:
        picture = ImageOps.exif_transpose(_eight_bits(image))
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        return resize(np.asarray(picture.convert("RGB")), Fraction(1), limits, None)[None]


def _eight_bits(image: Image.Image) -> Image.Image:
    """Sixteen bits a colour become eight: Pillow's own conversion cuts them off at 255."""
    if image.mode == "F":
        raise ValueError("the pixels are floating-point numbers of no known range")
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 0xFFFF:
        raise ValueError("the pixels are 32-bit numbers of no known range")
    reduced = Image.fromarray(np.round(levels / 257).astype(np.uint8))
    reduced.info = image.info
    return reduced
