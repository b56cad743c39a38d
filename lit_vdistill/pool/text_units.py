"""Boxes of records, which are shares of width and height, in the units that a model writes."""

from collections.abc import Sequence
from dataclasses import replace

from lit_vdistill.responses.writing import BoxUnits, rescaled_boxes
from lit_vdistill.types import Medium, TeacherResponse, VideoSample

DEMONSTRATED = "demonstration"
"""In place of a teacher's name: the response came with the record."""


def in_text_units(sample: VideoSample, medium: Medium | None, units: BoxUnits) -> VideoSample:
    """The sample with its boxes as the model writes them: rewards compare like with like."""
    edges = edges_of(medium, units)
    return sample if edges is None else sample_in_units(sample, *edges)


def edges_of(medium: Medium | None, units: BoxUnits) -> tuple[float, float] | None:
    """What the model writes at the right and at the lower edge of a medium; None for a text."""
    if medium is None:
        return None
    height, width = medium.frames.shape[1:3]
    return (float(width), float(height)) if units == "pixels" else (1000.0, 1000.0)


def demonstrations(samples: Sequence[VideoSample]) -> dict[str, tuple[TeacherResponse, ...]]:
    """What records bring along, as the one response of a sample's pool."""
    return {
        sample.id: (TeacherResponse(sample.id, 0, sample.demonstration, DEMONSTRATED, 0.0, 1.0),)
        for sample in samples
        if sample.demonstration
    }


def responses_in_units(
    pool: Sequence[TeacherResponse], x: float, y: float
) -> tuple[TeacherResponse, ...]:
    """The pool of a sample; a demonstration with its boxes as the model writes them."""
    return tuple(
        replace(response, text=rescaled_boxes(response.text, x, y, digits=0))
        if response.model == DEMONSTRATED
        else response
        for response in pool
    )


def sample_in_units(sample: VideoSample, x: float, y: float) -> VideoSample:
    """The sample with boxes that count to `x` along the width and to `y` along the height."""
    boxes = tuple(
        replace(item, box=(item.box[0] * x, item.box[1] * y, item.box[2] * x, item.box[3] * y))
        for item in sample.evidence.boxes
    )
    return replace(sample, evidence=replace(sample.evidence, boxes=boxes))
