"""Open-o3-Video's records (STGR-SFT.json, STGR-RL.json), which VISD trains on.

Media of a row lie in a folder that its source decides, below `data.sources.media_root`. Boxes of
video rows are shares of the frame, those of image rows pixels of the original image. Rows for SFT
bring a reasoning along, which with the answer is what stage 1 imitates.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any

from lit_vdistill.readers.options import split_options
from lit_vdistill.readers.schema import checked, expect, numbers, seconds, text_of
from lit_vdistill.responses import grammar
from lit_vdistill.responses.writing import rescaled_boxes
from lit_vdistill.tasks import Task
from lit_vdistill.types import BoxAt, Evidence, Span, VideoSample

STGR_TASKS = {
    "visual QA": Task.SPATIAL_GROUNDING,
    "temporal-spatial free-form QA": Task.SPATIO_TEMPORAL_QA,
    "temporal QA": Task.TEMPORAL_GROUNDING,
    "temporal QA (MCQ)": Task.TEMPORAL_MCQ,
    "General video QA MCQ": Task.MCQ,
    "General video QA Free-form": Task.OPEN_ENDED,
}
_FOLDERS = {  # the first that the source contains
    "videoespresso_train_video": "videoespresso/videos",
    "timerft": "timerft",
    "gqa": "gqa",
    "treevgr": "treevgr",
    "TreeVGR": "treevgr",
    "STR_plm": "stgr/plm/videos",
    "STR": "stgr/temporal_grounding/videos",
    "TVG": "tvg_r1",
    "videor1": "videor1",
}
_ANSWER_BOX = re.compile(r"<obj>(.*?)</obj>\s*<box>(\[.*?\])</box>", re.DOTALL)


def parse_stgr(raw: Any) -> VideoSample:
    """One row of an STGR file.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "row")
    task = STGR_TASKS[text_of(raw, "task")]
    is_image = task is Task.SPATIAL_GROUNDING
    question, answer = text_of(raw, "question"), text_of(raw, "answer").strip()
    as_written = question
    options: tuple[str, ...] = ()
    if task in (Task.MCQ, Task.TEMPORAL_MCQ):
        question, options = split_options(question)
    evidence = Evidence()
    if task in (Task.TEMPORAL_GROUNDING, Task.TEMPORAL_MCQ):
        evidence, answer = _when(answer, task)
    elif is_image:
        evidence, answer = _image_evidence(raw, answer)
    elif task is Task.SPATIO_TEMPORAL_QA:
        evidence = _key_frames(raw)
    path = text_of(raw, "image_path" if is_image else "video_path")
    sample = VideoSample(
        id=str(raw.get("id", "")),
        task=task,
        question=question,
        answer=answer,
        media=f"{_folder(text_of(raw, 'source'))}/{path}",
        media_type="image" if is_image else "video",
        options=options,
        as_written=as_written if options else "",
        demonstration=_demonstration(raw, is_image),
        evidence=evidence,
        meta={"source": raw["source"]},
    )
    return checked(sample)


def _demonstration(raw: Mapping[str, Any], is_image: bool) -> str:
    """A row's reasoning with its answer as a response, boxes as shares; empty where it has none.

    The boxes of an image row are pixels in both, those of a video row shares already.
    """
    reasoning = expect(raw.get("reasoning_process") or "", str, "reasoning_process")
    if not reasoning.strip():
        return ""
    answer = text_of(raw, "answer").strip()
    response = f"<think>{reasoning}</think>\n<answer>{answer}</answer>"
    if not is_image:
        return response
    width, height = _size(raw)
    return rescaled_boxes(response, 1 / width, 1 / height, digits=5)


def _folder(source: str) -> str:
    for part, folder in _FOLDERS.items():
        if part in source:
            return folder
    raise ValueError(f"'source' must contain one of {sorted(_FOLDERS)}, got '{source}'")


def _when(answer: str, task: Task) -> tuple[Evidence, str]:
    """The annotated time and the answer: `"[s, e]"`, behind a letter's line, or tagged text.

    The file for SFT writes the answer as it is to be given, `From <t>s</t>s to <t>e</t>s`.
    """
    span: Span | None = grammar.time_span(answer)
    letter = grammar.correct_option(answer) or ""
    if span is None:
        letter, _, literal = answer.rpartition("\n")
        start, end = numbers(_literal(literal), 2, "answer")
        span = (start, end)
    is_choice = task is Task.TEMPORAL_MCQ
    return Evidence(spans=(span,)), letter.strip() if is_choice else answer


def _literal(text: str) -> Any:
    """What a Python list in a text says."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"'answer' must hold a list of numbers, got {text!r:.80}") from error


def _image_evidence(raw: Mapping[str, Any], answer: str) -> tuple[Evidence, str]:
    """The answer's box as shares of the original image, and the object's name as the answer."""
    match = _ANSWER_BOX.search(answer)
    if not match:
        raise ValueError(f"'answer' must hold <obj>…</obj><box>[…]</box>, got {answer!r}")
    width, height = _size(raw)
    x1, y1, x2, y2 = numbers(_literal(match.group(2)), 4, "answer")
    box = (x1 / width, y1 / height, x2 / width, y2 / height)
    name = match.group(1).strip()
    return Evidence(boxes=(BoxAt(None, name, box),)), name


def _size(raw: Mapping[str, Any]) -> tuple[float, float]:
    """Width and height of the original image."""
    width, height = numbers(raw.get("image_size"), 2, "image_size")
    if not (width > 0 and height > 0):
        raise ValueError(f"'image_size' must be two numbers above 0, got {[width, height]}")
    return width, height


def _key_frames(raw: Mapping[str, Any]) -> Evidence:
    """Times of all key frames and their boxes; one without boxes is allowed, without a time not."""
    items = expect(raw.get("key_items") or {}, dict, "key_items")
    boxes, times = [], []
    for frame in expect(raw.get("key_frames") or [], list, "key_frames"):
        frame = expect(frame, dict, "key_frames")
        times.append(seconds(frame.get("time"), "key_frames.time"))
        objects = items.get(str(frame.get("idx"))) or {}
        for name, places in expect(objects, dict, "key_items").items():
            for place in places or []:
                x1, y1, x2, y2 = numbers(place, 4, "key_items")
                boxes.append(BoxAt(times[-1], name, (x1, y1, x2, y2)))
    return Evidence(boxes=tuple(boxes), key_times=tuple(times))
