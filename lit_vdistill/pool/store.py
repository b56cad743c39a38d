"""The teacher pool on disk: append-only JSONL (`lit_vdistill/jsonl.py`), one line a response.

A line is `{"sample_id", "index", "text", "model", "temperature", "top_p"}`, of a served teacher
with `call`: `{"seed", "prompt", "finish_reason", "input_tokens", "output_tokens", "cost"}`.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.types import TeacherCall, TeacherResponse

logger = logging.getLogger(__name__)
_FIELDS: dict[str, type] = {
    "sample_id": str,
    "index": int,
    "text": str,
    "model": str,
    "temperature": float,
    "top_p": float,
}
_CALL: dict[str, type] = {
    "seed": int,
    "prompt": str,
    "finish_reason": str,
    "input_tokens": int,
    "output_tokens": float,
    "cost": float,
}
_UNKNOWN_TO_SOME = ("input_tokens", "output_tokens", "cost")
"""Null where a server does not say."""


class PoolStore:
    """Reads and appends one pool file."""

    def __init__(self, path: str | Path) -> None:
        """Name the file; nothing is read or created yet."""
        self.path = Path(path)

    def append(self, responses: Iterable[TeacherResponse]) -> int:
        """Write responses behind what is there and return how many.

        A last line left incomplete by a crash is cut off first.
        """
        return jsonl.append(self.path, map(_row, responses))

    def load(self) -> Mapping[str, tuple[TeacherResponse, ...]]:
        """All responses by sample id, each pool ordered by index.

        Raises:
            FileNotFoundError: When the file is not there.
            ValueError: For a malformed line or two responses with the same sample and index; names
                the file and the line.
        """
        if not self.path.is_file():
            raise FileNotFoundError(
                f"teacher pool {self.path} does not exist (data.sources.pool_path)"
            )
        pools: dict[str, dict[int, TeacherResponse]] = {}
        for place, raw in jsonl.read(self.path):
            response = _parse(raw, place)
            pool = pools.setdefault(response.sample_id, {})
            if response.index in pool:
                raise ValueError(
                    f"{place}: response {response.index} of sample '{response.sample_id}' stands "
                    "twice; remove one of the two lines"
                )
            pool[response.index] = response
        return {key: tuple(pool[i] for i in sorted(pool)) for key, pool in pools.items()}

    def fingerprint(self) -> str:
        """Hash of the complete lines whatever their order: the same pool has the same name."""
        digests = sorted(hashlib.sha256(line).digest() for _, line in jsonl.lines(self.path))
        return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _row(response: TeacherResponse) -> dict[str, Any]:
    row = asdict(response)
    if response.call is None:
        del row["call"]
    return row


def _parse(raw: Any, place: str) -> TeacherResponse:
    raw = dict(raw) if isinstance(raw, dict) else raw
    call = raw.pop("call", None) if isinstance(raw, dict) else None
    _check(raw, _FIELDS, place)
    if call is None:
        return TeacherResponse(**raw)
    _check(call, _CALL, f"{place}, 'call'")
    return TeacherResponse(**raw, call=TeacherCall(**call))


def _check(raw: Any, fields: Mapping[str, type], place: str) -> None:
    """Whether it is an object of these fields.

    Raises:
        ValueError: Says what it is instead.
    """
    if not isinstance(raw, dict) or set(raw) != set(fields):
        found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
        raise ValueError(f"{place}: expected the keys {sorted(fields)}, got {found}")
    for key, kind in fields.items():
        if raw[key] is None and key in _UNKNOWN_TO_SOME:
            continue
        allowed = (int, float) if kind is float else (kind,)
        if type(raw[key]) not in allowed:
            raise ValueError(f"{place}: '{key}' must be {kind.__name__}, got {raw[key]!r:.80}")
        if kind is str and not jsonl.has_utf8(raw[key]):
            raise ValueError(f"{place}: '{key}' holds half a surrogate pair: {raw[key]!r:.80}")


def report_unmatched(ids: Set[str], pools: Mapping[str, object], path: str | None) -> None:
    """Say how sample ids and pool ids fail to meet; no pool at all is for the stage to refuse.

    Raises:
        ValueError: When they have none in common.
    """
    if not pools:
        return
    if not ids & set(pools):
        raise ValueError(
            f"teacher pool {path}: none of its {len(pools)} sample ids is a training sample; "
            "the pool belongs to other records"
        )
    if extra := set(pools) - ids:
        logger.warning("teacher pool %s: %d sample ids match no training sample", path, len(extra))
    if missing := ids - set(pools):
        logger.warning("teacher pool %s: %d training samples have no response", path, len(missing))
