"""Results of cells on disk: a small JSON each, which lies in the repository.

A result is found by what it is of, the hash of its merged config and its seed, wherever it lies:
cells of different sweeps that are the same are run once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl

RESULTS = Path("experiments/results")
_NEEDED = (
    "sweep", "cell", "seed", "config_hash", "stage", "steps", "seconds", "start", "before", "after",
    "training", "curves", "tokens", "teacher_responses", "judged_rollouts",
)  # fmt: skip
_OF_THE_DAY = (
    "sweep", "cell", "arguments", "commit", "versions", "machine", "threads", "seconds",
)  # fmt: skip
"""What two runs of the same may differ in."""
Record = dict[str, Any]
Stored = dict[tuple[str, int], Record]
"""Results by hash and seed."""


def stored(folder: Path = RESULTS) -> Stored:
    """All results in a folder; of two of the same, the one that more splits were asked for.

    Raises:
        ValueError: For a file that is no result, by name.
    """
    found: Stored = {}
    for path in sorted(folder.glob("*/*.json")):
        record = jsonl.parse(path.read_bytes(), str(path))
        known = record if isinstance(record, dict) else {}
        missing = [key for key in _NEEDED if key not in known]
        if missing:
            raise ValueError(
                f"{path}: expected a finished cell, got no keys {missing}; remove it and run the "
                "sweep again"
            )
        key = (str(known["config_hash"]), int(known["seed"]))
        if key not in found or len(known["after"]) > len(found[key]["after"]):
            found[key] = known
    return found


def write(record: Record, folder: Path) -> Path:
    """Write a result, whole or not at all, as `<sweep>/<cell>-<seed>.json`."""
    path = folder / record["sweep"] / f"{record['cell']}-{record['seed']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two results of the same cell and seed."""

    common: int
    """Figures that both have."""
    unlike: tuple[str, ...]
    """Those that are not the same to the digit."""
    alone: tuple[str, ...]
    """Figures that one of them has, as what is logged has changed."""

    def __str__(self) -> str:
        """As a line."""
        same = (
            f"{self.common - len(self.unlike)} of {self.common} figures are the same to the digit"
        )
        unlike = f"; not {', '.join(self.unlike)}" if self.unlike else ""
        alone = f"; one of the two alone has {', '.join(self.alone)}" if self.alone else ""
        return same + unlike + alone


def compared(one: Record, other: Record) -> Comparison:
    """Figure by figure, without what is of the day."""
    first, second = (
        dict(_leaves({key: value for key, value in record.items() if key not in _OF_THE_DAY}))
        for record in (one, other)
    )
    common = first.keys() & second.keys()
    unlike = sorted(key for key in common if first[key] != second[key])
    return Comparison(len(common), tuple(unlike), tuple(sorted(first.keys() ^ second.keys())))


def _leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{place}.{key}" if place else key)
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{place}[{number}]")
    else:
        yield place, node
