"""The teacher pool on disk: append-only JSONL, one line a response.

A line is `{"sample_id", "index", "text", "model", "temperature", "top_p"}`. A line is written and
flushed whole; a process that dies in the middle of one leaves a last line without its newline,
which reading reports and appending cuts off. Anything else that is malformed raises.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from lit_vdistill.types import TeacherResponse

logger = logging.getLogger(__name__)
_FIELDS: dict[str, type] = {
    "sample_id": str,
    "index": int,
    "text": str,
    "model": str,
    "temperature": float,
    "top_p": float,
}


class PoolStore:
    """Reads and appends one pool file."""

    def __init__(self, path: str | Path) -> None:
        """Name the file; nothing is read or created yet."""
        self.path = Path(path)

    def append(self, responses: Iterable[TeacherResponse]) -> int:
        """Write responses behind what is there and return how many.

        A last line left incomplete by a crash is cut off first.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._cut_incomplete_line()
        count = 0
        with self.path.open("a", encoding="utf-8") as file:
            for response in responses:
                file.write(json.dumps(asdict(response), ensure_ascii=False) + "\n")
                file.flush()
                count += 1
        return count

    def load(self) -> Mapping[str, tuple[TeacherResponse, ...]]:
        """All responses by sample id, each pool ordered by index.

        Raises:
            FileNotFoundError: When the file is not there.
            ValueError: For a malformed line or two responses with the same sample and index; names
                the file and the line.
        """
        if not self.path.is_file():
            raise FileNotFoundError(f"teacher pool {self.path} does not exist (data.pool_path)")
        pools: dict[str, dict[int, TeacherResponse]] = {}
        for line_number, line in self._complete_lines():
            response = self._parse(line, line_number)
            pool = pools.setdefault(response.sample_id, {})
            if response.index in pool:
                raise ValueError(
                    f"{self.path}, line {line_number}: response {response.index} of sample "
                    f"'{response.sample_id}' stands twice; remove one of the two lines"
                )
            pool[response.index] = response
        return {key: tuple(pool[i] for i in sorted(pool)) for key, pool in pools.items()}

    def fingerprint(self) -> str:
        """Hash of the complete lines whatever their order: the same pool has the same name."""
        digests = sorted(hashlib.sha256(line).digest() for _, line in self._complete_lines())
        return hashlib.sha256(b"".join(digests)).hexdigest()[:16]

    def _complete_lines(self) -> list[tuple[int, bytes]]:
        """Lines that end, with their numbers; empty ones are passed over."""
        raw = self.path.read_bytes()
        lines = raw.split(b"\n")
        if lines[-1]:
            logger.warning(
                "%s: the last line is incomplete (a crash while writing?) and is left out: %r …",
                self.path, lines[-1][:80],
            )  # fmt: skip
        return [(n, line) for n, line in enumerate(lines[:-1], start=1) if line.strip()]

    def _cut_incomplete_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            raw = file.read()
            end = raw.rfind(b"\n") + 1
            if end < len(raw):
                logger.warning(
                    "%s: cut off an incomplete last line of %d bytes", self.path, len(raw) - end
                )
                file.truncate(end)

    def _parse(self, line: bytes, line_number: int) -> TeacherResponse:
        place = f"{self.path}, line {line_number}"
        try:
            raw = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{place}: not JSON ({error})") from error
        if not isinstance(raw, dict) or set(raw) != set(_FIELDS):
            found = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
            raise ValueError(f"{place}: expected the keys {sorted(_FIELDS)}, got {found}")
        for key, kind in _FIELDS.items():
            allowed = (int, float) if kind is float else (kind,)
            if type(raw[key]) not in allowed:
                raise ValueError(f"{place}: '{key}' must be {kind.__name__}, got {raw[key]!r}")
        return TeacherResponse(**raw)
