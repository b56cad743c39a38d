"""Boxes at whole seconds: how an answer says where something is while it moves.

Either mentions of the grammar, `<obj>dog</obj><box>[1,2,3,4]</box>at<t>3</t>s`, or JSON by second,
as V-STaR asks for: `{"3": [1, 2, 3, 4]}`, several boxes a second, a list of such objects or of
pairs `[3, [1, 2, 3, 4]]`, in a fence or in quotes of either kind. Missing brackets do no harm.
"""

import re

from lit_vdistill.responses.grammar import grounded_mentions, read_box
from lit_vdistill.types import Box

_SECOND = r"[\"']?([0-9]{1,9}(?:\.[0-9]{0,20})?)s?[\"']?"
# White space and boxes are bounded, so that no text costs more than a constant a character.
_PART = re.compile(
    rf"(?<![\w.:-]){_SECOND}\s{{0,8}}:(?!\d)|\[\s{{0,8}}{_SECOND}\s{{0,8}},\s{{0,8}}(?=\[)"
    r"|(\[[^\[\]]{0,200}\])"
)


def boxes_by_second(text: str) -> dict[int, tuple[Box, ...]]:
    """All boxes of an answer with their seconds; empty where none can be read.

    A time that is no whole second has no annotation, so its boxes are passed over, as are boxes
    without a second or with anything but four numbers.
    """
    found: dict[int, tuple[Box, ...]] = {}
    for time_s, boxes in _mentioned(text) or _as_json(text):
        if time_s.is_integer():
            found[int(time_s)] = found.get(int(time_s), ()) + boxes
    return found


def _mentioned(text: str) -> list[tuple[float, tuple[Box, ...]]]:
    return [(mention.time_s, mention.boxes) for mention in grounded_mentions(text)]


def _as_json(text: str) -> list[tuple[float, tuple[Box, ...]]]:
    found = []
    time_s: float | None = None
    for part in _PART.finditer(text):
        key, first, raw = part.groups()
        if raw is None:
            time_s = float(key or first)
            continue
        box = read_box(raw)
        if time_s is not None and box is not None:
            found.append((time_s, (box,)))
    return found
