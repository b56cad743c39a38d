"""Feedback that is asked for once."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.judge.judge import Judge, JudgeCase, is_feedback


class CachedJudge:
    """Asks a judge about what it has not seen, and remembers answers by case and judge.

    Failures are not remembered: the next time the judge is asked again.
    """

    def __init__(self, judge: Judge, path: str | None = None) -> None:
        """Read what is remembered.

        Args:
            judge: Who is asked.
            path: JSONL file that keeps the feedback between runs; None remembers for this run.

        Raises:
            ValueError: For a line that is no feedback; names file and line.
        """
        self.judge, self.path = judge, None if path is None else Path(path)
        self.known: dict[str, str] = {}
        if self.path is not None and self.path.exists():
            for place, entry in jsonl.read(self.path):
                self._remember(place, entry)

    @property
    def identity(self) -> str:
        """That of the judge who is asked."""
        return self.judge.identity

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """See `Judge`."""
        keys = [_key(self.identity, case) for case in cases]
        asked = {key: case for key, case in zip(keys, cases, strict=True) if key not in self.known}
        answers = self.judge.diagnose(list(asked.values())) if asked else []
        found = {
            key: answer for key, answer in zip(asked, answers, strict=True) if is_feedback(answer)
        }
        self.known |= found
        if self.path is not None and found:
            rows = ({"key": key, "feedback": text} for key, text in found.items())
            jsonl.append(self.path, rows)
        return [self.known.get(key) for key in keys]

    def _remember(self, place: str, entry: Any) -> None:
        is_entry = isinstance(entry, dict) and set(entry) == {"key", "feedback"}
        if not is_entry or not all(isinstance(value, str) for value in entry.values()):
            raise ValueError(
                f"{place}: expected an object with the texts 'key' and 'feedback', got "
                f"{entry!r:.80}; delete the line, it will be asked for again"
            )
        self.known[entry["key"]] = entry["feedback"]


def _key(judge: str, case: JudgeCase) -> str:
    scores = (sorted(case.parts.items()), sorted(case.maxima.items()))
    content = repr((judge, case.sample, case.text, scores))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
