"""The embedded world: real H.264 files of moving shapes and digits with exact ground truth.

A scene holds one to three coloured shapes and a digit, each in a corner of its own, each on screen
for a span of whole seconds. Nine questions are asked about every scene, one a task. All of it
is a function of the seed. `world/simulated_teacher.py` writes the teacher pool that goes with it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from lit_vdistill.types import Box, BoxAt, Evidence, Facts, Span, Task, VideoSample

WORLD_VERSION = 2
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 190, 60),
    "blue": (60, 90, 230),
    "yellow": (230, 210, 40),
}
BACKGROUND = 128
"""Mid-grey is 0 to a processor that normalises to [-1, 1]: what is not there adds nothing."""
SHAPES = ("square", "disc", "cross")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
WORDS = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "place": CORNERS,
    "digit": tuple("0123456789"),
}
"""All words for what is true of an object, by kind."""
STEP_PX = 8
"""Grid on which shapes stand and move."""
MOTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1), "still": (0, 0)}
# 3x5 bitmaps, one row a character, drawn at 15x25 pixels.
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711",
    "5": "74717", "6": "74757", "7": "71111", "8": "75757", "9": "75717",
}  # fmt: skip


@dataclass(frozen=True)
class WorldConfig:
    """Size of the embedded world."""

    train_videos: int = 320
    """Videos of the training split; each carries nine questions."""
    val_videos: int = 24
    """Videos of the held-out split, on which settings and checkpoints are chosen."""
    test_videos: int = 400
    """Videos of the split that is only reported."""
    seed: int = 0
    """Seed of scenes, questions and of the simulated teacher."""
    pool_size: int = 4
    """Simulated teacher responses a question, K of R-MSD Eq. 1."""
    frame_px: int = 64
    """Side of the square frames; a multiple of 32, so that one corner is one vision token."""
    num_frames: int = 31
    """Frames of a file; 31 at 4 fps puts 16 evenly sampled frames on exact half seconds."""
    fps: int = 4
    """Frame rate of the files."""

    @property
    def seconds(self) -> int:
        """Whole seconds on which objects appear and vanish."""
        return (self.num_frames + 1) // self.fps


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A coloured shape or a digit in one corner."""

    name: str
    """`"red square"` or `"digit 7"`."""
    corner: str
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
    def facts(self) -> dict[str, str]:
        """What is true of it, by kind."""
        first, second = self.name.split()
        of_kind = {"colour": first, "shape": second} if self.is_shape else {"digit": second}
        return of_kind | {"place": self.corner}

    @property
    def is_shape(self) -> bool:
        """Whether it is a shape and not the digit."""
        return self.colour != "digit"

    def box(self, time_s: float) -> Box:
        """Pixels enclosed at a time inside the span; it moves by one step every two seconds."""
        dx, dy = MOTIONS[self.motion]
        moved = STEP_PX * int((time_s - self.span[0]) / 2)
        x, y = self.origin[0] + dx * moved, self.origin[1] + dy * moved
        return (float(x), float(y), float(x + self.size[0]), float(y + self.size[1]))


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is true about one video."""

    id: str
    objects: tuple[SceneObject, ...]
    """Ordered by start; the digit comes last."""

    @property
    def shapes(self) -> tuple[SceneObject, ...]:
        """The objects without the digit."""
        return tuple(item for item in self.objects if item.is_shape)

    @property
    def digit(self) -> SceneObject:
        """The one digit."""
        return self.objects[-1]


def make_scene(scene_id: str, config: WorldConfig, rng: random.Random) -> Scene:
    """Draw one scene."""
    corners = rng.sample(CORNERS, k=4)
    colours = rng.sample(list(COLOURS), k=rng.choice((1, 2, 2, 3)))
    names = [f"{colour} {rng.choice(SHAPES)}" for colour in colours]
    shapes = [
        _place(name, corner, config, rng) for name, corner in zip(names, corners, strict=False)
    ]
    shapes.sort(key=lambda item: (item.span, item.name))
    digit = _place(f"digit {rng.randrange(10)}", corners[-1], config, rng)
    return Scene(scene_id, (*shapes, digit))


def _place(name: str, corner: str, config: WorldConfig, rng: random.Random) -> SceneObject:
    """Put an object into a corner so that its motion never leaves it."""
    length = rng.randint(2, 5)
    start = rng.randint(0, config.seconds - length)
    half = config.frame_px // 2
    left, top = (0 if "left" in corner else half), (0 if "top" in corner else half)
    if name.startswith("digit"):
        motion, size, offset = "still", (15, 25), (8, 3)
    else:
        motion, size = rng.choice(list(MOTIONS)), (16, 16)
        travel = STEP_PX * ((length - 1) // 2)
        dx, dy = MOTIONS[motion]
        offset = (_offset(dx, travel, half - 16, rng), _offset(dy, travel, half - 16, rng))
    span = (float(start), float(start + length))
    return SceneObject(name, corner, motion, span, (left + offset[0], top + offset[1]), size)


def _offset(direction: int, travel: int, free: int, rng: random.Random) -> int:
    """A start on the grid, inside the corner, that leaves room for the way to go."""
    low = travel if direction < 0 else 0
    high = free - travel if direction > 0 else free
    return rng.randrange(low, high + 1, STEP_PX)


def render(scene: Scene, config: WorldConfig) -> np.ndarray:
    """Frames of a scene, uint8 `[frames, height, width, 3]`."""
    frames = np.full(
        (config.num_frames, config.frame_px, config.frame_px, 3), BACKGROUND, dtype=np.uint8
    )
    for index in range(config.num_frames):
        time_s = index / config.fps
        for item in scene.objects:
            if item.span[0] <= time_s < item.span[1]:
                _draw(frames[index], item, time_s)
    return frames


def _draw(frame: np.ndarray, item: SceneObject, time_s: float) -> None:
    x1, y1, x2, y2 = (int(value) for value in item.box(time_s))
    if not item.is_shape:
        rows = [[int(bit) for bit in f"{int(row, 16):03b}"] for row in _GLYPHS[item.name[-1]]]
        frame[y1:y2, x1:x2][np.kron(np.array(rows), np.ones((5, 5))).astype(bool)] = 235
        return
    ys, xs = np.mgrid[0 : y2 - y1, 0 : x2 - x1] + 0.5
    centre = (x2 - x1) / 2
    shape = item.name.split()[1]
    if shape == "square":
        mask = np.ones_like(xs, dtype=bool)
    elif shape == "disc":
        mask = (xs - centre) ** 2 + (ys - centre) ** 2 <= centre**2
    else:
        mask = (abs(xs - centre) <= centre / 3) | (abs(ys - centre) <= centre / 3)
    frame[y1:y2, x1:x2][mask] = COLOURS[item.colour]


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """Encode frames as H.264 in mp4, the same bytes on every run."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "12", "preset": "veryfast", "threads": "1", "g": "16"}
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())


def questions(scene: Scene, config: WorldConfig, rng: random.Random) -> Iterator[VideoSample]:
    """Nine questions about a scene, one a task, with exact answers and evidence."""
    target = rng.choice(scene.shapes)
    for task in Task:
        subject = scene.digit if task is Task.OCR else target
        time_s = float(rng.randrange(int(subject.span[0]), int(subject.span[1])))
        question, options, answer = _ask(task, scene, target, time_s, rng)
        scaled = tuple(value / config.frame_px for value in subject.box(time_s))
        yield VideoSample(
            id=f"{scene.id}-{task}",
            task=task,
            question=question,
            answer=answer,
            media=f"videos/{scene.id}.mp4",
            options=options,
            evidence=Evidence(
                spans=(subject.span,),
                boxes=(BoxAt(time_s, subject.name, scaled),),  # type: ignore[arg-type]
            ),
            facts=_facts(task, scene, subject, answer),
            meta={"scene": scene.id, "position": scene.objects.index(subject)},
        )


def _ask(
    task: Task, scene: Scene, target: SceneObject, time_s: float, rng: random.Random
) -> tuple[str, tuple[str, ...], str]:
    """Question, options and true answer of one task."""
    letters = "ABCD"
    if task is Task.MCQ:
        wrong = rng.sample([colour for colour in COLOURS if colour != target.colour], k=2)
        options = tuple(rng.sample([target.colour, *wrong], k=3))
        question = f"Which colour is at the {target.corner}?"
        return question, options, letters[options.index(target.colour)]
    if task is Task.TEMPORAL_MCQ:
        wrong = rng.sample([corner for corner in CORNERS if corner != target.corner], k=2)
        options = tuple(rng.sample([target.corner, *wrong], k=3))
        question = f"When and where is the {target.colour} shape?"
        return question, options, letters[options.index(target.corner)]
    if task is Task.BINARY:
        absent = [colour for colour in COLOURS if colour not in {s.colour for s in scene.shapes}]
        colour = target.colour if rng.random() < 0.5 else rng.choice(absent)
        return f"Is there a {colour} shape?", (), "yes" if colour == target.colour else "no"
    if task is Task.NUMERICAL:
        return "How many shapes appear?", (), str(len(scene.shapes))
    if task is Task.OCR:
        return "Which digit is shown?", (), scene.digit.name[-1]
    if task is Task.TEMPORAL_GROUNDING:
        start, end = target.span
        return f"When is the {target.colour} shape visible?", (), f"[{start}, {end}]"
    if task is Task.SPATIAL_GROUNDING:
        return f"Locate the {target.colour} shape at {time_s} s.", (), target.name
    if task is Task.SPATIO_TEMPORAL_QA:
        return f"What is the {target.colour} shape?", (), f"a {target.name} at the {target.corner}"
    return "Describe the video.", (), describe(scene)


def _facts(task: Task, scene: Scene, subject: SceneObject, answer: str) -> Facts:
    """What the question is about, and what an answer in words must say of it."""
    if task in (Task.NUMERICAL, Task.OPEN_ENDED):
        things = scene.shapes
    else:
        things = () if task is Task.BINARY and answer == "no" else (subject,)
    asked: dict[Task, tuple[str, ...]] = {
        Task.SPATIO_TEMPORAL_QA: ("colour", "shape", "place"),
        Task.OPEN_ENDED: ("colour", "shape", "place"),
    }
    kinds = ("digit", "place") if task is Task.OCR else ("colour", "shape", "place")
    return Facts(
        tuple(item.facts for item in things),
        {kind: WORDS[kind] for kind in kinds},
        asked.get(task, ()),
    )


def describe(scene: Scene) -> str:
    """The caption of a scene: each shape with its corner, in order of appearance."""
    return ", ".join(f"a {item.name} at the {item.corner}" for item in scene.shapes)


def scenes(split: str, config: WorldConfig) -> Iterator[Scene]:
    """The scenes of a split, each from a seed of its own."""
    counts = {"train": config.train_videos, "val": config.val_videos, "test": config.test_videos}
    count = counts[split]
    for index in range(count):
        rng = random.Random(f"{config.seed}/{split}/{index}")
        yield make_scene(f"{split}{index:05d}", config, rng)
