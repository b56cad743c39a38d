"""The grammar of responses as it is asked for and written; `grammar.py` reads it."""

from typing import Literal

from lit_vdistill.responses.grammar import read_box
from lit_vdistill.responses.tags import leaves, tags
from lit_vdistill.types import BoxAt, Span

BoxUnits = Literal["pixels", "thousandths"]
"""What the corners of a box count: pixels of the frame, or thousandths of its width and height."""
GROUND = (
    "Support the reasoning by what is seen: write every object it relies on as "
    "<obj>name</obj><box>[x1,y1,x2,y2]</box>at<t>seconds</t>s."
)
"""Asks for objects with their places and times."""
TIMES = "Write every time of the reasoning as <t>seconds</t>s."
"""Asks for times."""


def tagged_time(time_s: float) -> str:
    """A time, in seconds to two digits."""
    return f"<t>{round(time_s, 2)}</t>s"


def tagged_span(span: Span) -> str:
    """A segment, in seconds to two digits."""
    start, end = map(tagged_time, span)
    return f"{start} to {end}"


def tagged_box(found: BoxAt) -> str:
    """A box with its name, in whole units, as models are taught to write them."""
    box = ",".join(str(round(value)) for value in found.box)
    return f"<obj>{found.name}</obj><box>[{box}]</box>"


def rescaled_boxes(text: str, x: float, y: float, *, digits: int) -> str:
    """A text whose boxes have other units; what is no box between its tags stays.

    Args:
        text: A response.
        x: Factor on what counts along the width.
        y: Factor on what counts along the height.
        digits: Behind the point; 0 writes whole numbers.
    """
    parts, end = [], 0
    for element in leaves(tags(text)):
        box = read_box(element.within(text)) if element.name == "box" else None
        if box is None:
            continue
        corners = [value * factor for value, factor in zip(box, (x, y, x, y), strict=True)]
        written = ",".join(f"{round(value, digits):.{digits}f}" for value in corners)
        start, stop = element.inner
        parts += [text[end:start], f"[{written}]"]
        end = stop
    return "".join([*parts, text[end:]])
