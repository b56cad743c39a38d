"""Hostile records: rows of real ones with values, keys and lines that are not as they should be."""

import copy
import json
import random
from typing import Any

_VALUES = (
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 10**30, float("nan"), float("inf"), "", " ",
    "\0", "\ud800", "x" * 20_000, "\u202e", "<|video_pad|>", "<|im_end|>", "\U0001f600", "\u2028",
    "../../etc/passwd", "http://localhost/v.mp4", "videos", "B", "yes", "3", [], [[]], {}, [None],
    [1, 2], [2, 1], [0, float("nan")], [True, False], {"a": 1}, "video", "image", "text",
    [0.1, 0.2, 0.3, 0.4], [0.3, 0.2, 0.1, 0.4], [1, 2, 3, 4], ["a", "b"], ["a", "a"] * 40,
    "mcq", "binary", "numerical", "ocr", "open_ended", "temporal_grounding", "spatial_grounding",
    "temporal_mcq", "spatio_temporal_qa",
)  # fmt: skip


def record(rng: random.Random, whole: dict[str, Any]) -> bytes:
    """A line of JSON, or of nearly that: a real row in which something was changed.

    The first line of a file has to be UTF-8, lest the file is refused as a whole.
    """
    row = json.loads(json.dumps(whole))
    if "id" in row:
        row["id"] = f"{rng.randrange(10**12)}"
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        _spoil(rng, row)
    line = json.dumps(row, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        at = rng.randrange(len(line))
        line = line[:at] + rng.choice((b"", b"\xff", b"[" * 2000, b"\0", b"1" * 5000)) + line[at:]
    if rng.random() < 0.02:
        line = line[: rng.randrange(len(line))]
    return line.replace(b"\n", b" ") + b"\n"


def _spoil(rng: random.Random, tree: Any) -> None:
    """Change something somewhere in a tree, in place."""
    while True:
        places = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not places:
            return
        place = rng.choice(places)
        if isinstance(tree[place], (dict, list)) and rng.random() < 0.6:
            tree = tree[place]
            continue
        break
    kind = rng.random()
    if kind < 0.7:
        tree[place] = _value(rng)
    elif kind < 0.85:
        del tree[place]
    elif isinstance(tree, dict):
        tree[rng.choice(("", "id", "tasks", "\0", str(place) + " "))] = _value(rng)
    else:
        tree.append(_value(rng))


def _value(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(_VALUES))  # which may be changed in its turn
