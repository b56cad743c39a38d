"""A simulated stochastic teacher for the embedded world. It is a simulation, not a model.

It looks at the true scene through noise, then reasons and answers from what it believes to have
seen, so that the two agree, as a real teacher's do when it is wrong. How often and how far it errs
is `world/config.py: TeacherNoise`. It can be asked for more responses at any time.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lit_vdistill.responses.geometry import temporal_iou
from lit_vdistill.tasks import Task
from lit_vdistill.types import Box, Span, TeacherResponse, VideoSample
from lit_vdistill.world.config import (
    BeliefNoise,
    OverlapNoise,
    TeacherConfig,
    TeacherNoise,
    WorldConfig,
)
from lit_vdistill.world.questions import describe, sentence
from lit_vdistill.world.scenes import (
    COLOURS,
    FRAME_PX,
    PLACES,
    SECONDS,
    SHAPES,
    Scene,
    SceneObject,
)

MODEL_NAME = "simulated-teacher"
TEMPERATURE, TOP_P = 1.0, 0.9
Style = Literal["short", "usual", "long"]
_TEMPORAL = (Task.TEMPORAL_GROUNDING, Task.TEMPORAL_MCQ)
_RIGHT_IF_CONTESTED = 0.75


@dataclass(frozen=True, slots=True)
class Look:
    """What somebody believes to have seen when asked a question."""

    scene: Scene
    target: SceneObject
    """What the question is about, as it is believed to be."""
    box: Box
    """Pixels of the target at the annotated time."""


class SimulatedTeacher:
    """Answers questions about scenes, each response a function of the seed and its index."""

    def __init__(self, config: WorldConfig) -> None:
        """Take noise, styles and seed from the world's configuration."""
        self.config: TeacherConfig = config.teacher
        self.seed = config.seed

    def respond(
        self, sample: VideoSample, scene: Scene, count: int, first: int = 0
    ) -> list[TeacherResponse]:
        """Responses `first` to `first + count - 1` to a question (R-MSD Eq. 1).

        Args:
            sample: The question.
            scene: What is true.
            count: How many.
            first: Index of the first one. The same index has the same response however it is asked.
        """
        return [
            TeacherResponse(
                sample.id, index, self._text(sample, scene, index), MODEL_NAME, TEMPERATURE, TOP_P
            )
            for index in range(first, first + count)
        ]

    def _text(self, sample: VideoSample, scene: Scene, index: int) -> str:
        rng = random.Random(f"{self.seed}/teacher/{sample.id}/{index}")
        config, noise = self.config, self.config.noise
        shares = (config.short, 1 - config.short - config.long, config.long)
        styles: tuple[Style, ...] = ("short", "usual", "long")
        (style,) = rng.choices(styles, shares)
        if config.noise_free:
            return write_response(sample, true_look(sample, scene), style=style)
        seen = self._look(sample, scene, noise, rng)
        answered = seen
        if rng.random() < noise.disagreement:
            answered = self._look(sample, scene, noise, rng)
        text = write_response(sample, seen, answered, style=style)
        is_temporal = sample.task in _TEMPORAL
        is_malformed = noise.malformed_temporal if is_temporal else noise.malformed
        return _break_format(text, rng) if rng.random() < is_malformed else text

    def _look(
        self, sample: VideoSample, scene: Scene, noise: TeacherNoise, rng: random.Random
    ) -> Look:
        """A noisy look: what is hard about the question is the same for all of its looks."""
        of_question = random.Random(f"{self.seed}/teacher/{sample.id}")
        look = true_look(sample, scene)
        if sample.task is Task.SPATIAL_GROUNDING:
            overlap = _overlap(noise.boxes, of_question, rng)
            return replace(look, box=_noisy_box(look.box, overlap, rng))
        if sample.task in _TEMPORAL:
            overlap = _overlap(noise.times, of_question, rng)
            span = _noisy_span(look.target.span, overlap, rng)
            look = _believe(look, replace(look.target, span=span))
        beliefs: BeliefNoise | None = getattr(noise, sample.task, None)
        if beliefs is None:
            return look
        return _mistaken(sample, look, lambda: _is_right(beliefs, of_question, rng), rng)


def true_look(sample: VideoSample, scene: Scene) -> Look:
    """What who sees everything as it is believes."""
    target = scene.objects[int(sample.meta["position"])]
    time_s = sample.evidence.boxes[0].time_s
    assert time_s is not None
    return Look(scene, target, target.box(time_s))


def write_response(
    sample: VideoSample, seen: Look, answered: Look | None = None, *, style: Style = "usual"
) -> str:
    """The response of somebody who believes what a look shows, with grounded reasoning.

    Args:
        sample: The question.
        seen: What the reasoning rests on.
        answered: What the answer rests on; the same where it is left out.
        style: How the reasoning is worded.
    """
    think = _reasoning(sample, seen, style)
    return f"<think>{think}</think>\n<answer>{_answer(sample, answered or seen)}</answer>"


def _reasoning(sample: VideoSample, seen: Look, style: Style) -> str:
    target, place = seen.target, seen.target.place
    match sample.task:
        case Task.SPATIAL_GROUNDING | Task.SPATIO_TEMPORAL_QA:
            mention = _mention(target, seen.box)
            when = f"at<t>{sample.evidence.boxes[0].time_s}</t>s"
            forms = (mention, mention + when, f"The video shows {mention}{when}")
        case Task.NUMERICAL | Task.OPEN_ENDED:
            names = [item.name for item in seen.scene.shapes]
            forms = (
                ", ".join(item.colour for item in seen.scene.shapes),
                ", ".join(names),
                "The video shows " + ", ".join(f"a {name}" for name in names),
            )
        case Task.OCR:
            digits = ", ".join(target.digits)
            forms = (digits, f"{digits} {place}", f"The video shows {digits} at the {place}")
        case Task.BINARY if not _is_there(sample, seen):
            forms = ("not there", "not there", "The object is not there")
        case _:
            when = f" {_tagged(target.span)}" if sample.task in _TEMPORAL else ""
            short = {Task.MCQ: target.colour, Task.TEMPORAL_MCQ: place}
            forms = (
                short.get(sample.task, target.name) + when,
                f"{target.name} {place}{when}",
                f"The video shows {sentence(target)}{when}",
            )
    return dict(zip(("short", "usual", "long"), forms, strict=True))[style]


def _answer(sample: VideoSample, seen: Look) -> str:
    """The answer that follows from a look, as the task has it written."""
    target = seen.target
    match sample.task:
        case Task.MCQ:
            return "ABCD"[sample.options.index(target.colour)]
        case Task.BINARY:
            return "yes" if _is_as_asked(sample, seen) else "no"
        case Task.NUMERICAL:
            return str(len(seen.scene.shapes))
        case Task.OCR:
            return " ".join(target.digits)
        case Task.TEMPORAL_GROUNDING:
            return f"From {_tagged(target.span)}"
        case Task.TEMPORAL_MCQ:
            letter = "ABCD"[sample.options.index(target.place)]
            return f"From {_tagged(target.span)}.\nCorrect Option: {letter}"
        case Task.SPATIAL_GROUNDING:
            return _mention(target, seen.box)
        case Task.SPATIO_TEMPORAL_QA:
            return sentence(target)
        case Task.OPEN_ENDED:
            return describe(seen.scene)
    raise AssertionError(f"no answer to '{sample.task}'")


def _is_there(sample: VideoSample, seen: Look) -> bool:
    """Whether the scene holds what a yes-or-no question is about, whatever the answer."""
    return any(item.colour in sample.question.split() for item in seen.scene.shapes)


def _is_as_asked(sample: VideoSample, seen: Look) -> bool:
    """Whether a believed shape has the colour, and the shape and place if any, that is asked."""
    asked = sample.question.rstrip("?")
    shape = next((shape for shape in SHAPES if asked.endswith(shape)), None)
    place = next((place for place in PLACES if asked.endswith(f" {place}")), None)
    return any(
        item.colour in asked.split()
        and item.shape == (shape or item.shape)
        and item.place == (place or item.place)
        for item in seen.scene.shapes
    )


def _mistaken(
    sample: VideoSample, look: Look, is_right: Callable[[], bool], rng: random.Random
) -> Look:
    """A look whose beliefs are each right or not; a wrong one leads to a wrong answer."""
    target = look.target
    match sample.task:
        case Task.MCQ if not is_right():
            colour = _other(sample.options, target.colour, rng)
            return _believe(look, replace(target, name=f"{colour} {target.shape}"))
        case Task.TEMPORAL_MCQ if not is_right():
            return _believe(look, replace(target, place=_other(sample.options, target.place, rng)))
        case Task.BINARY if not is_right():
            return _turned(sample, look, rng)
        case Task.NUMERICAL if not is_right():
            return _miscounted(look, rng)
        case Task.OCR:
            digits = [d if is_right() else _other("0123456789", d, rng) for d in target.digits]
            return _believe(look, replace(target, name=f"digits {' '.join(digits)}"))
        case Task.SPATIO_TEMPORAL_QA:
            shape = target.shape if is_right() else _other(SHAPES, target.shape, rng)
            place = target.place if is_right() else _other(PLACES, target.place, rng)
            renamed = replace(target, name=f"{target.colour} {shape}", place=place)
            return _believe(look, renamed)
        case Task.OPEN_ENDED:
            for item in look.scene.shapes:
                colour = item.colour if is_right() else _free_colour(look.scene, rng)
                shape = item.shape if is_right() else _other(SHAPES, item.shape, rng)
                place = item.place if is_right() else _other(PLACES, item.place, rng)
                renamed = replace(item, name=f"{colour} {shape}", place=place)
                look = _believe(replace(look, target=item), renamed)
    return look


def _turned(sample: VideoSample, look: Look, rng: random.Random) -> Look:
    """A look that turns a yes-or-no answer."""
    target, asked = look.target, sample.question.rstrip("?")
    if look.scene.level.asks == "shape":
        wanted = asked.split()[-1]
        shape = wanted if sample.answer == "no" else _other(SHAPES, target.shape, rng)
        return _believe(look, replace(target, name=f"{target.colour} {shape}"))
    if look.scene.level.asks == "place":
        wanted = next(place for place in PLACES if asked.endswith(f" {place}"))
        place = wanted if sample.answer == "no" else _other(PLACES, target.place, rng)
        return _believe(look, replace(target, place=place))
    if sample.answer == "yes":
        colour = _free_colour(look.scene, rng)
    else:
        colour = next(colour for colour in COLOURS if colour in asked.split())
    return _believe(look, replace(target, name=f"{colour} {target.shape}"))


def _miscounted(look: Look, rng: random.Random) -> Look:
    """A look with a shape too many or too few."""
    scene, target = look.scene, look.target
    if len(scene.shapes) > 1 and (rng.random() < 0.5 or len(scene.shapes) == len(COLOURS)):
        kept = tuple(item for item in scene.objects if item is not target)
    else:
        colour, place = _free_colour(scene, rng), _other(PLACES, target.place, rng)
        added = replace(target, name=f"{colour} {rng.choice(SHAPES)}", place=place)
        kept = (added, *scene.objects)
    return replace(look, scene=replace(scene, objects=kept))


def _believe(look: Look, believed: SceneObject) -> Look:
    """The same look with another belief about its target."""
    objects = tuple(believed if item is look.target else item for item in look.scene.objects)
    return replace(look, scene=replace(look.scene, objects=objects), target=believed)


def _is_right(noise: BeliefNoise, of_question: random.Random, rng: random.Random) -> bool:
    """Whether a sample has the question's next belief right."""
    kind = of_question.random()
    if kind < noise.contested:
        return rng.random() < _RIGHT_IF_CONTESTED
    return kind >= noise.contested + noise.missed


def _overlap(noise: OverlapNoise, of_question: random.Random, rng: random.Random) -> float:
    """The IoU with the truth that a sample is to have."""
    skill = min(max(of_question.gauss(noise.mean, noise.across), 0.0), 1.0)
    return min(max(rng.gauss(skill, noise.within), 0.0), 1.0)


def _other(words: Sequence[str], truth: str, rng: random.Random) -> str:
    return rng.choice([word for word in words if word != truth])


def _free_colour(scene: Scene, rng: random.Random) -> str:
    used = {item.colour for item in scene.shapes}
    return rng.choice([colour for colour in COLOURS if colour not in used])


def _mention(item: SceneObject, box: Box) -> str:
    pixels = ",".join(str(round(value)) for value in box)
    return f"<obj>{item.name}</obj><box>[{pixels}]</box>"


def _tagged(span: Span) -> str:
    return f"<t>{span[0]}</t>s to <t>{span[1]}</t>s"


def _noisy_span(span: Span, overlap: float, rng: random.Random) -> Span:
    """A span on whole seconds whose temporal IoU with the truth is near `overlap`."""
    spans = [(float(a), float(b)) for a in range(SECONDS) for b in range(a + 1, SECONDS + 1)]
    rng.shuffle(spans)
    return min(spans, key=lambda other: abs(temporal_iou(other, span) - overlap))


def _noisy_box(box: Box, overlap: float, rng: random.Random) -> Box:
    """The box, shifted on a grid of 2 px within the frame so that its IoU is near `overlap`."""
    width, height = box[2] - box[0], box[3] - box[1]
    shared = 2 * width * height * overlap / (1 + overlap)
    dx = rng.choice([x for x in range(0, int(width) + 1, 2) if (width - x) * height >= shared])
    dy = height - shared / (width - dx) if dx < width else rng.uniform(0, height)
    return _shifted(_shifted(box, 0, float(dx), rng), 1, 2.0 * round(dy / 2), rng)


def _shifted(box: Box, axis: int, by: float, rng: random.Random) -> Box:
    """A box, moved along an axis to whichever side has room; there is always one."""
    ways = [way for way in (by, -by) if box[axis] + way >= 0 and box[axis + 2] + way <= FRAME_PX]
    way = rng.choice(ways)
    x, y = (way, 0.0) if axis == 0 else (0.0, way)
    return (box[0] + x, box[1] + y, box[2] + x, box[3] + y)


def _break_format(text: str, rng: random.Random) -> str:
    """A malformed version of a response, of a kind that real teachers produce."""
    return rng.choice(
        [
            text.replace("<think>", "").replace("</think>", ""),
            text.removesuffix("</answer>"),
            text.replace("<t>", "").replace("</t>", "").replace("<answer>", "").rstrip(),
        ]
    )
