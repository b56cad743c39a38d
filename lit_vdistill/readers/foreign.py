"""Which of other people's formats a file has; each has a file of its own here."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lit_vdistill.readers.charades import is_charades, parse_charades, queries_of, query_of_line
from lit_vdistill.readers.stgr import STGR_TASKS, parse_stgr
from lit_vdistill.readers.time_r1 import parse_time_r1
from lit_vdistill.readers.tvgbench import parse_tvgbench
from lit_vdistill.readers.video_r1 import parse_video_r1
from lit_vdistill.types import VideoSample

Row = tuple[str, Callable[[], Any], Callable[[Any], VideoSample]]
"""The place of a record, what reads it and what makes a sample of it."""
_ROWS: dict[str, tuple[Callable[[dict[str, Any]], bool], Callable[[Any, int], VideoSample]]] = {
    "STGR": (
        lambda row: isinstance(row.get("task"), str) and row["task"] in STGR_TASKS,
        lambda row, _: parse_stgr(row),
    ),
    "Video-R1": (lambda row: "problem" in row, lambda row, _: parse_video_r1(row)),
    "TVGBench": (lambda row: "qsemtype" in row, parse_tvgbench),
    "Time-R1": (lambda row: "timestamp" in row and "sentence" in row, parse_time_r1),
}
"""Formats whose file is a list of rows: how a row is known, and what makes a sample of it."""
FORMATS = (*_ROWS, "Charades-STA")


def rows_of_json(path: Path) -> Iterator[Row]:
    """The records of a JSON file.

    Raises:
        ValueError: When it is not JSON, or of no known format.
    """
    try:
        # Numbers that are none are left to the checks of each row, which name it.
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if is_charades(value):
        for row in queries_of(value):
            yield f"{path}, {row['id']}", lambda row=row: row, parse_charades
    elif isinstance(value, list):
        for number, row in enumerate(value):
            place = f"{path}, row {number}"
            yield place, lambda row=row: row, lambda row, number=number: _parse(row, number)
    else:
        raise ValueError(
            f"{path}: expected a list of rows, or Charades-STA's videos by name, got "
            f"{type(value).__name__}"
        )


def rows_of_text(path: Path) -> Iterator[Row]:
    """The lines of Charades-STA's own text."""
    counts: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                read = lambda line=line: query_of_line(line, counts)  # noqa: E731
                yield f"{path}, line {number}", read, parse_charades


def _parse(row: Any, number: int) -> VideoSample:
    for matches, parse in _ROWS.values():
        if isinstance(row, dict) and matches(row):
            return parse(row, number)
    known = sorted(row)[:20] if isinstance(row, dict) else type(row).__name__
    raise ValueError(f"a row of no known format ({', '.join(_ROWS)}), it has {known!r:.200}")
