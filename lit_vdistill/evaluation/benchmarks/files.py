"""Official files as they are on disk: which one is there, its rows, and where the videos are."""

import importlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.readers.records import BadSample, guess_id
from lit_vdistill.types import VideoSample

_VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
Row = tuple[str, Any]
"""Place and value of a record."""


def first_file(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of several names that is there.

    Raises:
        FileNotFoundError: Names the folder and what was expected in it.
    """
    for name in names:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(
        f"{root} has no {what}, expected {' or '.join(names)}; data_root must be the folder that "
        "holds the benchmark's official files"
    )


def rows_of(path: Path) -> list[Row]:
    """The records of a `.json` list, a `.jsonl` or a `.parquet` file.

    Raises:
        ValueError: When the file as a whole cannot be read: names it, and the line if there is one.
    """
    if path.suffix == ".parquet":
        rows = _parquet(path)
    elif path.suffix == ".jsonl":
        # A last line that is cut off would be a question less.
        lines = path.read_bytes().split(b"\n")
        numbered = [(f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]
        return _some(path, [(place, jsonl.parse(line, place)) for place, line in numbered])
    else:
        rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of records, got a {type(rows).__name__}")
    return _some(path, [(f"{path}, row {number}", row) for number, row in enumerate(rows)])


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        ValueError: When it is none, as a file that is cut off, or has a key twice in an object.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected a whole JSON file, got one that cannot be read ({error}); fetch it "
            "again if it was cut off"
        ) from error


def samples_of(
    rows: Iterable[Row], parse: Callable[[Any], VideoSample]
) -> tuple[list[VideoSample], list[BadSample]]:
    """A question a row, and the rows that are none; ids that stand twice stay two questions."""
    samples: list[VideoSample] = []
    bad: list[BadSample] = []
    seen: dict[str, int] = {}
    for place, row in rows:
        try:
            sample = parse(row)
        except ValueError as error:
            bad.append(BadSample(guess_id(row), place, str(error)))
            continue
        count = seen[sample.id] = seen.get(sample.id, 0) + 1
        samples.append(replace(sample, id=f"{sample.id}#{count}") if count > 1 else sample)
    return samples, bad


class Videos:
    """Where the videos below a folder are, by name: publishers' archives unpack in several ways."""

    def __init__(self, root: Path) -> None:
        """Look once; a name that several folders have is the first of them in order."""
        self.root, self.known = root, dict[str, str]()
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in _VIDEOS:
                self.known.setdefault(path.stem, path.relative_to(root).as_posix())

    def path(self, expected: str) -> str:
        """The path of a video below the folder: as expected, or where its name is found."""
        if (self.root / expected).is_file():
            return expected
        return self.known.get(Path(expected).stem, expected)


def _some(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise ValueError(f"{path} holds no record")
    return rows


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r:.80} stands twice in one object")
    return found


def _parquet(path: Path) -> Any:
    try:
        frame = importlib.import_module("pandas").read_parquet(path)
    except ImportError as error:
        raise ValueError(
            f"{path}: reading .parquet needs pandas and pyarrow ({error}); install them, or write "
            f"the rows as {path.with_suffix('.jsonl').name} elsewhere"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a parquet file, got one that cannot be read ({error})"
        ) from error
    return json.loads(frame.to_json(orient="records"))
