"""Results of cells on disk: a small JSON each, which lies in the repository.

A result is found by what it is of, the hash of its merged config and its seed, wherever it lies:
cells of different sweeps that are the same are run once.
"""

import json
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl

RESULTS = Path("experiments/results")
_NEEDED = (
    "sweep", "cell", "seed", "config_hash", "stage", "steps", "seconds", "start", "before", "after",
    "training", "curves", "tokens", "teacher_responses", "judged_rollouts",
)  # fmt: skip
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
