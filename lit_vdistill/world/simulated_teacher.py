"""A simulated stochastic teacher for the embedded world. It is a simulation, not a model.

It looks at the true scene through noise, then answers what it believes to have seen, so that
its reasoning and its answer agree, as a real teacher's do when it is wrong. How often and how
far it errs follows R-MSD §4.4; see `NOISE`.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lit_vdistill.responses.geometry import box_iou, temporal_iou
from lit_vdistill.types import Box, Span, Task, TeacherResponse, VideoSample
from lit_vdistill.world.scenes import (
    COLOURS,
    CORNERS,
    SHAPES,
    Scene,
    SceneObject,
    WorldConfig,
    describe,
)

MODEL_NAME = "simulated-teacher"
TEMPERATURE, TOP_P = 1.0, 0.9


@dataclass(frozen=True, slots=True)
class TaskNoise:
    """How good the simulated teacher is at a task, in units of the quality q of R-MSD Eq. 2."""

    mean: float
    across: float
    """Standard deviation across questions."""
    within: float
    """Standard deviation across samples of one question."""
    format_violation: float = 0.005


# R-MSD §4.4 gives: all tasks 0.75 +- 0.22; MCQ 0.96 +- 0.10, sampling 0.07; visual QA 0.64 +- 0.24,
# sampling 0.15; OCR in [0.50, 0.85]; numerical in [0.65, 1.00]; sampling about 0.10 on average;
# malformed 1 % overall, 10 % for temporal QA. The other rows are chosen to meet the overall row.
NOISE = {
    Task.MCQ: TaskNoise(0.96, 0.10, 0.07),
    Task.BINARY: TaskNoise(0.92, 0.12, 0.07),
    Task.NUMERICAL: TaskNoise(0.83, 0.12, 0.10),
    Task.OCR: TaskNoise(0.68, 0.12, 0.10),
    Task.TEMPORAL_GROUNDING: TaskNoise(0.62, 0.22, 0.12, format_violation=0.05),
    Task.TEMPORAL_MCQ: TaskNoise(0.80, 0.20, 0.12, format_violation=0.05),
    Task.SPATIAL_GROUNDING: TaskNoise(0.64, 0.24, 0.15),
    Task.SPATIO_TEMPORAL_QA: TaskNoise(0.70, 0.22, 0.12),
    Task.OPEN_ENDED: TaskNoise(0.70, 0.22, 0.12),
}


def simulate_pool(
    sample: VideoSample, scene: Scene, config: WorldConfig
) -> Iterator[TeacherResponse]:
    """K simulated responses to one question (R-MSD Eq. 1), a function of the world's seed."""
    rng = random.Random(f"{config.seed}/teacher/{sample.id}")
    noise = NOISE[sample.task]
    skill = rng.gauss(noise.mean, noise.across)
    for index in range(config.pool_size):
        target_quality = min(max(rng.gauss(skill, noise.within), 0.0), 1.0)
        believed, answer, box = _perceive(sample, scene, target_quality, config, rng)
        text = write_response(sample, believed, answer, box)
        if rng.random() < noise.format_violation:
            text = _break_format(text, rng)
        yield TeacherResponse(sample.id, index, text, MODEL_NAME, TEMPERATURE, TOP_P)


def write_response(sample: VideoSample, scene: Scene, answer: str, box: Box) -> str:
    """The response of somebody who believes `scene`, with grounded reasoning.

    Args:
        sample: The question.
        scene: What is believed to be in the video.
        answer: What is believed to be the answer, in the form of `sample.answer`.
        box: Believed pixels of the target at the annotated time.
    """
    target = _subject(sample, scene)
    seen, answer_text = f"{target.name} {target.corner}", answer
    match sample.task:
        case Task.BINARY:
            seen = seen if answer == "yes" else "not there"
        case Task.NUMERICAL | Task.OPEN_ENDED:
            seen = ", ".join(item.name for item in scene.shapes)
        case Task.TEMPORAL_GROUNDING | Task.TEMPORAL_MCQ:
            seen = f"{target.name} {target.corner} {_tagged(target.span)}"
            answer_text = f"From {_tagged(target.span)}"
            if sample.task is Task.TEMPORAL_MCQ:
                answer_text += f".\nCorrect Option: {answer}"
        case Task.SPATIAL_GROUNDING | Task.SPATIO_TEMPORAL_QA:
            pixels = ",".join(str(round(value)) for value in box)
            mention = f"<obj>{target.name}</obj><box>[{pixels}]</box>"
            seen = f"{mention}at<t>{sample.evidence.boxes[0].time_s}</t>s"
            answer_text = mention if sample.task is Task.SPATIAL_GROUNDING else answer
        case Task.MCQ | Task.OCR:
            pass
    return f"<think>{seen}</think>\n<answer>{answer_text}</answer>"


def _tagged(span: Span) -> str:
    return f"<t>{span[0]}</t>s to <t>{span[1]}</t>s"


def _subject(sample: VideoSample, scene: Scene) -> SceneObject:
    """The object a question is about, found by its place in the true scene's order."""
    if sample.task is Task.OCR:
        return scene.digit
    position = int(sample.meta["position"])
    return scene.objects[position]


def _perceive(
    sample: VideoSample, scene: Scene, quality: float, config: WorldConfig, rng: random.Random
) -> tuple[Scene, str, Box]:
    """A noisy look at the scene: what is believed, the answer that follows, the target's box."""
    target = _subject(sample, scene)
    time_s = sample.evidence.boxes[0].time_s
    assert time_s is not None
    box = target.box(time_s)
    is_right = rng.random() < quality
    if sample.task is Task.TEMPORAL_GROUNDING:
        span = _noisy_span(target.span, quality, config.seconds, rng)
        return _swap(scene, target, replace(target, span=span)), sample.answer, box
    if sample.task is Task.SPATIAL_GROUNDING:
        return scene, sample.answer, _noisy_box(box, quality, config.frame_px, rng)
    if is_right:
        return scene, sample.answer, box
    believed, answer = _mistake(sample, scene, target, rng)
    return believed, answer, box


def _mistake(
    sample: VideoSample, scene: Scene, target: SceneObject, rng: random.Random
) -> tuple[Scene, str]:
    """A wrong belief about the scene and the wrong answer that follows from it."""
    used = {item.colour for item in scene.shapes}
    other_colour = rng.choice([colour for colour in COLOURS if colour not in used])
    other_corner = rng.choice([corner for corner in CORNERS if corner != target.corner])
    renamed = replace(target, name=f"{other_colour} {rng.choice(SHAPES)}")
    if sample.task is Task.MCQ:
        index = rng.choice([i for i, text in enumerate(sample.options) if text != target.colour])
        believed = replace(target, name=f"{sample.options[index]} {target.name.split()[1]}")
        return _swap(scene, target, believed), "ABCD"[index]
    if sample.task is Task.TEMPORAL_MCQ:
        index = rng.choice([i for i, text in enumerate(sample.options) if text != target.corner])
        return _swap(scene, target, replace(target, corner=sample.options[index])), "ABCD"[index]
    if sample.task is Task.BINARY:
        asked = replace(target, name=f"{sample.question.split()[3]} {rng.choice(SHAPES)}")
        return _swap(scene, target, asked), "no" if sample.answer == "yes" else "yes"
    if sample.task is Task.NUMERICAL:
        if len(scene.shapes) > 1:
            kept = tuple(item for item in scene.objects if item is not target)
        else:
            kept = (replace(renamed, corner=other_corner), *scene.objects)
        believed = Scene(scene.id, kept)
        return believed, str(len(believed.shapes))
    if sample.task is Task.OCR:
        digit = rng.choice([d for d in "0123456789" if d != sample.answer])
        return _swap(scene, target, replace(target, name=f"digit {digit}")), digit
    believed_target = replace(renamed, corner=other_corner)
    believed = _swap(scene, target, believed_target)
    if sample.task is Task.SPATIO_TEMPORAL_QA:
        return believed, f"a {believed_target.name} at the {other_corner}"
    return believed, describe(believed)


def _swap(scene: Scene, old: SceneObject, new: SceneObject) -> Scene:
    return Scene(scene.id, tuple(new if item is old else item for item in scene.objects))


def _noisy_span(span: Span, quality: float, seconds: int, rng: random.Random) -> Span:
    """A span on whole seconds whose temporal IoU with the truth is near `quality`."""
    spans = [(float(a), float(b)) for a in range(seconds) for b in range(a + 1, seconds + 1)]
    rng.shuffle(spans)
    return min(spans, key=lambda other: abs(temporal_iou(other, span) - quality))


def _noisy_box(box: Box, quality: float, frame_px: int, rng: random.Random) -> Box:
    """A box inside the frame whose IoU with the truth is near `quality`, on a grid of 2 px."""
    shifts = [(dx, dy) for dx in range(-16, 17, 2) for dy in range(-16, 17, 2)]
    rng.shuffle(shifts)
    moved = [(box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy) for dx, dy in shifts]
    inside = [b for b in moved if min(b) >= 0 and max(b) <= frame_px]
    return min(inside, key=lambda other: abs(box_iou(other, box) - quality))


def _break_format(text: str, rng: random.Random) -> str:
    """A malformed version of a response, of a kind that real teachers produce."""
    return rng.choice(
        [
            text.replace("<think>", "").replace("</think>", ""),
            text.removesuffix("</answer>"),
            text.replace("<t>", "").replace("</t>", "").replace("<answer>", "").rstrip(),
        ]
    )
