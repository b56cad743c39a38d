"""A record of V-STaR and its five questions, which tell in our words what officially is told."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lit_vdistill.metrics.vstar_item import DURATIONS
from lit_vdistill.readers.schema import checked, expect, numbers, seconds, span_of, text_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import Box, BoxAt, Evidence, Span, VideoSample

KINDS = ("vqa", "temporal", "spatial", "spatial_2", "temporal_2")
"""In the official order; the last two are chain 2."""
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TASKS = {
    "vqa": Task.OPEN_ENDED,
    "temporal": Task.TEMPORAL_GROUNDING,
    "spatial": Task.SPATIO_TEMPORAL_GROUNDING,
    "spatial_2": Task.SPATIO_TEMPORAL_GROUNDING,
    "temporal_2": Task.TEMPORAL_GROUNDING,
}
_ASKED = {
    "vqa": "{question}",
    "temporal": "{question}\nThe video lasts {length_s} seconds.",
    "spatial": "{question}\nGive its box at each of these seconds: {seconds}.",
    "spatial_2": "{question}\nGive its box at {num_boxes} whole seconds at which it is seen.",
    "temporal_2": (
        "{question}\nThe video lasts {length_s} seconds. It is seen in these places, one after "
        "the other, each [left, top, right, bottom] as shares of width and height: {shares}."
    ),
}
_TEXT_OF = {
    "vqa": "question",
    "temporal": "temporal_question",
    "spatial": "spatial_question",
    "spatial_2": "spatial_question_2",
    "temporal_2": "temporal_question",
}


def questions_of(raw: Any, item: str) -> list[VideoSample]:
    """The five questions of an item.

    Args:
        raw: The record.
        item: What the item is called; questions are called after it and their kind.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "record")
    vid = text_of(raw, "vid")
    size = (_positive(raw, "width"), _positive(raw, "height"))
    length_s = round(_positive(raw, "frame_count") / _positive(raw, "fps"), 2)
    span = span_of(raw.get("timestamps"), "timestamps")
    pixels = _boxes(expect(raw.get("bboxes"), list, "bboxes"))
    name = raw.get("object")
    boxes = tuple(
        BoxAt(
            float(second), name if isinstance(name, str) and name else "object", _share(box, size)
        )
        for second, box in pixels
    )
    duration = next(k for k, (low, high) in DURATIONS.items() if low <= length_s < high)
    groups = [f"duration/{duration}", f"domain/{text_of(raw, 'domain')}"]
    fills = _fills(size, length_s, span, pixels)
    fills["shares"] = "; ".join(str([round(corner, 3) for corner in box.box]) for box in boxes)
    truths = {
        "vqa": (text_of(raw, "answer"), Evidence()),
        "temporal": (f"[{span[0]}, {span[1]}]", Evidence(spans=(span,))),
        "spatial": (fills["by_second"], Evidence(boxes=boxes)),
    }
    asked = []
    for kind in KINDS:
        answer, evidence = truths[kind.removesuffix("_2")]
        told = {**fills, "question": text_of(raw, _TEXT_OF[kind])}
        meta = {"video": vid, "item": item, "kind": kind, "groups": groups, "fills": told}
        asked.append(
            checked(
                VideoSample(
                    id=f"{item}-{kind}",
                    task=_TASKS[kind],
                    question=_ASKED[kind].format_map(told),
                    answer=answer,
                    media=f"videos/{vid}.mp4",
                    evidence=evidence,
                    meta={**meta, "duration_s": length_s},
                ),
                keeps_boxes=True,
            )
        )
    return asked


def _fills(
    size: tuple[float, float], length_s: float, span: Span, pixels: Sequence[tuple[int, Box]]
) -> dict[str, Any]:
    """What official prompts tell: boxes in pixels of the video."""
    by_second: dict[str, list[list[float]]] = {}
    for second, box in pixels:
        by_second.setdefault(str(second), []).append(list(box))
    return {
        "width": round(size[0]),
        "height": round(size[1]),
        "length_s": length_s,
        "start_s": span[0],
        "end_s": span[1],
        "seconds": ", ".join(by_second),
        "boxes": ", ".join(str(list(box)) for _, box in pixels),
        "num_boxes": len(pixels),
        "by_second": json.dumps(by_second),
    }


def _boxes(raw: Sequence[Any]) -> list[tuple[int, Box]]:
    """Whole seconds with corners in pixels of the video, in order of time."""
    found: list[tuple[int, Box]] = []
    for one in raw:
        row = expect(one, dict, "bboxes")
        time_s = seconds(row.get("timestamp"), "bboxes.timestamp")
        if not time_s.is_integer():
            raise ValueError(f"'bboxes.timestamp' must be a whole second, got {time_s}")
        x1, y1, x2, y2 = numbers([row.get(corner) for corner in _CORNERS], 4, "bboxes")
        found.append((int(time_s), (x1, y1, x2, y2)))
    return sorted(found, key=lambda pair: pair[0])


def _share(box: Box, size: tuple[float, float]) -> Box:
    width, height = size
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def _positive(raw: Mapping[str, Any], key: str) -> float:
    (value,) = numbers([raw.get(key)], 1, key)
    if value <= 0:
        raise ValueError(f"'{key}' must be above 0, got {value}")
    return value
