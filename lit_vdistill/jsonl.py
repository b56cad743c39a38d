r"""JSON lines on disk: one way to read and to write them, for every file of the project.

A line ends with `\n` and with nothing else: what other programs take for line ends (U+2028) may
stand in text. A process that dies while it writes leaves a last line without its end. If that can
be read it counts, if not it is reported and left out, and the next one who appends cuts it off.
Numbers are finite: what is not is written as null and refused when read.
"""

import json
import logging
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
_SHOWN = 80
_LONGEST_INTEGER = 18
"""Digits. A longer one is no count, index or time, and overflows where it becomes a float."""


class LineError(ValueError):
    """A line that is no JSON; the message names file, line and reason, on one line."""


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines as they stand in a file, with their numbers from 1; empty ones are passed over.

    A last line without its end that cannot be read is reported and left out.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if not line.endswith(b"\n") and not _is_readable(line):
                logger.warning(
                    "%s, line %d: incomplete (a crash while writing?) and left out: %s",
                    path, number, _shown(line),
                )  # fmt: skip
                continue
            yield number, line.strip()


def parse(line: bytes | str, place: str) -> Any:
    """The value of one line.

    Args:
        line: UTF-8.
        place: File and line, for the error.

    Raises:
        LineError: For anything but JSON with finite numbers.
    """
    try:
        text = line if isinstance(line, str) else line.decode("utf-8-sig")
        return json.loads(
            text, parse_constant=_refuse, parse_float=_finite, parse_int=_short_integer
        )
    except RecursionError as error:
        raise LineError(f"{place}: nested too deeply: {_shown(line)}") from error
    except ValueError as error:  # of JSON and of UTF-8
        raise LineError(f"{place}: not JSON ({error}): {_shown(line)}") from error


def read(path: Path) -> Iterator[tuple[str, Any]]:
    """The values in a file, each with its place for errors about it.

    Raises:
        LineError: For a line that is no JSON.
    """
    for number, line in lines(path):
        place = f"{path}, line {number}"
        yield place, parse(line, place)


def append(path: Path, rows: Iterable[Any]) -> int:
    """Write rows behind what is there, each flushed whole, and return how many.

    A last line left incomplete by a crash is ended if it can be read, else cut off.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _end_last_line(path)
    count = 0
    with path.open("ab") as file:
        for row in rows:
            file.write(dump(row))
            file.flush()
            count += 1
    return count


def write(path: Path, rows: Iterable[Any]) -> None:
    """Write a file anew: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.writelines(map(dump, rows))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def dump(row: Any) -> bytes:
    """One line, its end included."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_non_finite(row), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair has no UTF-8, but an escape in JSON, and that is what this writes.
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


def has_utf8(text: str) -> bool:
    """Whether a text can be written and tokenised: JSON may hold half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _without_non_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_non_finite(inner) for inner in value]
    return value


def _end_last_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if size == 0 or file.read() == b"\n":
            return
        file.seek(0)
        (last,) = deque(file, maxlen=1)
        if _is_readable(last):
            file.write(b"\n")
            return
        logger.warning("%s: cut off an incomplete last line: %s", path, _shown(last))
        file.truncate(size - len(last))


def _is_readable(line: bytes) -> bool:
    try:
        parse(line, "")
    except LineError:
        return False
    return True


def _shown(line: bytes | str) -> str:
    shown = repr(line[:_SHOWN])
    return f"{shown} …" if len(line) > _SHOWN else shown


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond every number")
    return value


def _short_integer(text: str) -> int:
    if len(text.lstrip("-")) > _LONGEST_INTEGER:
        raise ValueError(f"{text[:20]}… has more than {_LONGEST_INTEGER} digits")
    return int(text)
