"""Scenes of the embedded world: moving shapes and digits with exact ground truth, on three levels.

A scene holds coloured shapes and a text of digits, each in a cell of its own of a grid of three by
three, each on screen for a span of whole seconds. All of it is a function of the seed.
`world/questions.py` asks about scenes, `world/simulated_teacher.py` answers as a teacher would.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from lit_vdistill.types import Box, Span
from lit_vdistill.world.config import WorldConfig

Split = Literal["train", "val", "test"]
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (60, 90, 230),
    "yellow": (230, 210, 40),
    "purple": (160, 50, 200),
    "black": (20, 20, 20),
}
SHAPES = ("square", "disc", "cross")
PLACES = (
    "top left", "top middle", "top right",
    "middle left", "centre", "middle right",
    "bottom left", "bottom middle", "bottom right",
)  # fmt: skip
"""The cells, row by row."""
WORDS = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "place": PLACES,
    "digit": tuple("0123456789"),
}
"""All words for what is true of an object, by kind."""
CELL_PX = 32
"""One vision token of the tiny students sees one cell."""
FRAME_PX = 3 * CELL_PX
SHAPE_PX = 24
"""Side of a shape."""
DOT_PX = 6
"""Side of one of the 3 x 5 dots of a digit."""
STEP_PX = 8
"""Grid on which shapes stand and move."""
NUM_FRAMES, FPS = 8, 1
"""A frame a second. A vision token spans two frames, and can tell which of them shows a shape."""
SECONDS = NUM_FRAMES // FPS
"""Whole seconds on which objects appear and vanish."""
MOTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1), "still": (0, 0)}
_BACKGROUND = 128
"""Mid-grey is 0 to a processor that normalises to [-1, 1]: what is not there adds nothing."""
_GLYPH_COLOUR = 235
# 3x5 bitmaps, one row a character.
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711",
    "5": "74717", "6": "74757", "7": "71111", "8": "75757", "9": "75717",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Level:
    """How hard a scene and the questions about it are."""

    name: str
    shapes: tuple[int, int]
    """Fewest and most shapes."""
    seconds: tuple[int, int]
    """Shortest and longest time that a shape is on screen."""
    stands: Literal["centred", "anywhere", "moving"]
    """Where in its cell a shape is: in the middle, anywhere on the grid, or there and moving."""
    digits: int
    """Digits of the text, shown one after the other."""
    digit_seconds: tuple[int, int]
    """Shortest and longest time that a digit is on screen."""
    options: int
    """Options of a multiple-choice question."""
    asks: Literal["colour", "shape", "place"]
    """What a yes-or-no question is about: whether a colour is there, or what is true of it."""


LEVELS = (
    Level("easy", (1, 2), (4, 7), "centred", 1, (4, 8), options=2, asks="colour"),
    Level("medium", (2, 4), (3, 6), "anywhere", 2, (2, 4), options=3, asks="shape"),
    Level("hard", (3, 5), (2, 4), "moving", 3, (2, 2), options=4, asks="place"),
)
"""Shapes and digits look alike on all levels: what is learnt of them on one serves all."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A coloured shape, or a text of digits, in a cell of its own."""

    name: str
    """`"red square"`, or `"digits 4 7 2"` for a 4, then a 7, then a 2."""
    place: str
    motion: str
    span: Span
    """First and last second on screen; visible at t with start <= t < end."""
    origin: tuple[int, int]
    """Top-left pixel at the start of the span."""
    size: tuple[int, int]

    @property
    def colour(self) -> str:
        """First word of the name."""
        return self.name.split()[0]

    @property
    def shape(self) -> str:
        """Second word of a shape's name."""
        return self.name.split()[1]

    @property
    def digits(self) -> tuple[str, ...]:
        """What a text shows, in order."""
        return tuple(self.name.split()[1:])

    @property
    def is_shape(self) -> bool:
        """Whether it is a shape and not the text."""
        return self.colour != "digits"

    @property
    def facts(self) -> tuple[dict[str, str], ...]:
        """What is true of it, by kind; of a text digit by digit."""
        if self.is_shape:
            return ({"colour": self.colour, "shape": self.shape, "place": self.place},)
        return tuple({"digit": digit, "place": self.place} for digit in self.digits)

    def box(self, time_s: float) -> Box:
        """Pixels enclosed at a time inside the span; it moves by one step every two seconds."""
        dx, dy = MOTIONS[self.motion]
        moved = STEP_PX * int((time_s - self.span[0]) / 2)
        x, y = self.origin[0] + dx * moved, self.origin[1] + dy * moved
        return (float(x), float(y), float(x + self.size[0]), float(y + self.size[1]))

    def digit_at(self, time_s: float) -> str:
        """The digit of a text that is on screen at a time inside the span."""
        share = (time_s - self.span[0]) / (self.span[1] - self.span[0])
        return self.digits[int(share * len(self.digits))]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is true about one video."""

    id: str
    level: Level
    objects: tuple[SceneObject, ...]
    """Ordered by start; the text comes last."""

    @property
    def shapes(self) -> tuple[SceneObject, ...]:
        """The objects without the text."""
        return tuple(item for item in self.objects if item.is_shape)

    @property
    def text(self) -> SceneObject:
        """The one text of digits."""
        return self.objects[-1]


def scenes(split: Split, config: WorldConfig) -> Iterator[Scene]:
    """The scenes of a split, each from a seed of its own, levels in turn."""
    counts = {"train": config.train_videos, "val": config.val_videos, "test": config.test_videos}
    for index in range(counts[split]):
        rng = random.Random(f"{config.seed}/{split}/{index}")
        yield make_scene(f"{split}{index:05d}", LEVELS[index % len(LEVELS)], rng)


def make_scene(scene_id: str, level: Level, rng: random.Random) -> Scene:
    """Draw one scene."""
    places = rng.sample(PLACES, k=len(PLACES))
    colours = rng.sample(list(COLOURS), k=rng.randint(*level.shapes))
    shapes = [
        _shape(f"{colour} {rng.choice(SHAPES)}", place, level, rng)
        for colour, place in zip(colours, places, strict=False)
    ]
    shapes.sort(key=lambda item: (item.span, item.name))
    return Scene(scene_id, level, (*shapes, _text(places[-1], level, rng)))


def _shape(name: str, place: str, level: Level, rng: random.Random) -> SceneObject:
    """A shape that stays within its cell however it moves."""
    span = _span(rng.randint(*level.seconds), rng)
    left, top = _corner(place)
    motion = rng.choice(list(MOTIONS)) if level.stands == "moving" else "still"
    if level.stands == "centred":
        dx = dy = (CELL_PX - SHAPE_PX) // 2
    else:
        travel = STEP_PX * (int(span[1] - span[0] - 1) // 2)
        dx, dy = (_offset(direction, travel, rng) for direction in MOTIONS[motion])
    return SceneObject(name, place, motion, span, (left + dx, top + dy), (SHAPE_PX, SHAPE_PX))


def _text(place: str, level: Level, rng: random.Random) -> SceneObject:
    """Digits in the middle of a cell, each on screen as long as the others."""
    # Neighbours differ: one digit twice in a row could not be told from one digit.
    digits: list[str] = []
    while len(digits) < level.digits:
        digit = str(rng.randrange(10))
        digits += [digit] if digits[-1:] != [digit] else []
    span = _span(level.digits * rng.randint(*level.digit_seconds), rng)
    left, top = _corner(place)
    width, height = 3 * DOT_PX, 5 * DOT_PX
    origin = (left + (CELL_PX - width) // 2, top + (CELL_PX - height) // 2)
    return SceneObject(f"digits {' '.join(digits)}", place, "still", span, origin, (width, height))


def _span(length: int, rng: random.Random) -> Span:
    start = rng.randint(0, SECONDS - length)
    return float(start), float(start + length)


def _corner(place: str) -> tuple[int, int]:
    row, column = divmod(PLACES.index(place), 3)
    return column * CELL_PX, row * CELL_PX


def _offset(direction: int, travel: int, rng: random.Random) -> int:
    """A start on the grid, inside the cell, that leaves room for the way to go."""
    free = CELL_PX - SHAPE_PX
    low = travel if direction < 0 else 0
    high = free - travel if direction > 0 else free
    return rng.randrange(low, high + 1, STEP_PX)


def render(scene: Scene) -> np.ndarray:
    """Frames of a scene, uint8 `[frames, height, width, 3]`."""
    frames = np.full((NUM_FRAMES, FRAME_PX, FRAME_PX, 3), _BACKGROUND, dtype=np.uint8)
    for index, frame in enumerate(frames):
        time_s = index / FPS
        for item in scene.objects:
            if item.span[0] <= time_s < item.span[1]:
                x1, y1, x2, y2 = (int(value) for value in item.box(time_s))
                colour = COLOURS.get(item.colour, (_GLYPH_COLOUR,) * 3)
                frame[y1:y2, x1:x2][_mask(item, time_s)] = colour
    return frames


def _mask(item: SceneObject, time_s: float) -> np.ndarray:
    """Which pixels of its box an object covers, `[height, width]`."""
    width, height = item.size
    if not item.is_shape:
        rows = _GLYPHS[item.digit_at(time_s)]
        bits = np.array([[int(bit) for bit in f"{int(row, 16):03b}"] for row in rows])
        dot = width // 3
        return np.kron(bits, np.ones((dot, dot))).astype(bool)
    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    half = width / 2
    if item.shape == "square":
        return np.ones_like(xs, dtype=bool)
    if item.shape == "disc":
        return (xs - half) ** 2 + (ys - half) ** 2 <= half**2
    return (abs(xs - half) <= half / 3) | (abs(ys - half) <= half / 3)


def write_video(path: Path, frames: np.ndarray, fps: int | Fraction, *, scale: int = 1) -> None:
    """Encode frames as H.264 in mp4, the same bytes on every run.

    Args:
        path: File to write.
        frames: uint8 `[frames, height, width, 3]`.
        fps: Frames a second.
        scale: Side of the square of the file's pixels that each pixel becomes.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width, _ = frames.shape
    dots = np.broadcast_to(frames[:, :, None, :, None], (count, height, scale, width, scale, 3))
    frames = dots.reshape(count, height * scale, width * scale, 3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "12", "preset": "superfast", "threads": "1", "g": "16"}
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
