"""Nine questions about a scene, one a task, with exact answers, evidence and facts."""

import random
from collections.abc import Sequence

from lit_vdistill.tasks import Task
from lit_vdistill.types import BoxAt, Evidence, Facts, VideoSample
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.scenes import (
    COLOURS,
    FRAME_PX,
    PLACES,
    SHAPES,
    WORDS,
    Scene,
    SceneObject,
)

_Asked = tuple[str, tuple[str, ...], str]
"""Question, options and true answer."""
_OF_SHAPES = ("colour", "shape", "place")
TASKS = (
    Task.MCQ,
    Task.BINARY,
    Task.NUMERICAL,
    Task.OCR,
    Task.TEMPORAL_GROUNDING,
    Task.TEMPORAL_MCQ,
    Task.SPATIAL_GROUNDING,
    Task.SPATIO_TEMPORAL_QA,
    Task.OPEN_ENDED,
)
"""What the world asks, whatever other tasks there are; the order decides what is drawn."""
_KINDS_ASKED: dict[Task, tuple[str, ...]] = {
    Task.SPATIO_TEMPORAL_QA: ("shape", "place"),  # the question gives the colour away
    Task.OPEN_ENDED: _OF_SHAPES,
}


def questions(scene: Scene, config: WorldConfig) -> list[VideoSample]:
    """The questions about a scene; all but those about the text and the whole share one target.

    Returns:
        One sample a task. Its `meta` names the scene, its level, and the target by its position
        among the scene's objects.
    """
    rng = random.Random(f"{config.seed}/{scene.id}")
    target = rng.choice(scene.shapes)
    asked = []
    for task in TASKS:
        subject = scene.text if task is Task.OCR else target
        time_s = float(rng.randrange(int(subject.span[0]), int(subject.span[1])))
        question, options, answer = _ask(task, scene, target, time_s, rng)
        scaled = tuple(value / FRAME_PX for value in subject.box(time_s))
        asked.append(
            VideoSample(
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
                facts=_facts(task, scene, subject, is_there=f"{task}{answer}" != "binaryno"),
                meta={
                    "scene": scene.id,
                    "level": scene.level.name,
                    "position": scene.objects.index(subject),
                },
            )
        )
    return asked


def _ask(
    task: Task, scene: Scene, target: SceneObject, time_s: float, rng: random.Random
) -> _Asked:
    match task:
        case Task.MCQ:
            options = _options(target.colour, list(COLOURS), scene, rng)
            letter = "ABCD"[options.index(target.colour)]
            return f"Which colour is at the {target.place}?", options, letter
        case Task.TEMPORAL_MCQ:
            options = _options(target.place, PLACES, scene, rng)
            letter = "ABCD"[options.index(target.place)]
            return f"When and where is the {target.colour} shape?", options, letter
        case Task.BINARY:
            return _is_there(scene, target, rng)
        case Task.NUMERICAL:
            return "How many shapes appear?", (), str(len(scene.shapes))
        case Task.OCR:
            return "Which digits are shown?", (), " ".join(scene.text.digits)
        case Task.TEMPORAL_GROUNDING:
            start, end = target.span
            return f"When is the {target.colour} shape visible?", (), f"[{start}, {end}]"
        case Task.SPATIAL_GROUNDING:
            return f"Locate the {target.colour} shape at {time_s} s.", (), target.name
        case Task.SPATIO_TEMPORAL_QA:
            return f"What is the {target.colour} shape?", (), sentence(target)
        case Task.OPEN_ENDED:
            return "Describe the video.", (), describe(scene)
    raise AssertionError(f"no question for '{task}'")


def _options(truth: str, words: Sequence[str], scene: Scene, rng: random.Random) -> tuple[str, ...]:
    """The truth among wrong words, in the order of all words.

    So what was seen says much about the letter by itself: the first word is always A. From medium
    on, one of the wrong words is true of another shape.
    """
    elsewhere = {item.colour for item in scene.shapes} | {item.place for item in scene.shapes}
    wrong = rng.sample([word for word in words if word != truth], k=len(words) - 1)
    near = [word for word in wrong if word in elsewhere]
    far = [word for word in wrong if word not in elsewhere]
    count = scene.level.options - 1
    chosen = [*near[: count // 2], *far][:count]
    return tuple(sorted([truth, *chosen], key=words.index))


def _is_there(scene: Scene, target: SceneObject, rng: random.Random) -> _Asked:
    """Whether a colour is there, or the target has a shape, or stands at a place."""
    is_true = rng.random() < 0.5
    if scene.level.asks == "colour":
        absent = [c for c in COLOURS if c not in {item.colour for item in scene.shapes}]
        question = f"Is there a {target.colour if is_true else rng.choice(absent)} shape?"
    elif scene.level.asks == "shape":
        other = rng.choice([shape for shape in SHAPES if shape != target.shape])
        question = f"Is there a {target.colour} {target.shape if is_true else other}?"
    else:
        other = rng.choice([item.place for item in scene.shapes if item is not target])
        question = f"Is the {target.colour} shape at the {target.place if is_true else other}?"
    return question, (), "yes" if is_true else "no"


def _facts(task: Task, scene: Scene, subject: SceneObject, *, is_there: bool) -> Facts:
    """What the question is about, and what an answer in words must say of it."""
    things: tuple[SceneObject, ...] = (subject,)
    if task in (Task.NUMERICAL, Task.OPEN_ENDED):
        things = scene.shapes
    elif not is_there and scene.level.asks == "colour":
        things = ()
    kinds = ("digit", "place") if task is Task.OCR else _OF_SHAPES
    return Facts(
        tuple(facts for item in things for facts in item.facts),
        {kind: WORDS[kind] for kind in kinds},
        _KINDS_ASKED.get(task, ()),
    )


def sentence(item: SceneObject) -> str:
    """A shape in words: `a red square at the top left`."""
    return f"a {item.name} at the {item.place}"


def describe(scene: Scene) -> str:
    """The caption of a scene: each shape with its place, in order of appearance."""
    return ", ".join(map(sentence, scene.shapes))
