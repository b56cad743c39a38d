"""Feedback that is asked for once."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from lit_vdistill.judge.judge import Judge, JudgeCase


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
            for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
                try:
                    entry = json.loads(line)
                    self.known[entry["key"]] = entry["feedback"]
                except (json.JSONDecodeError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{self.path}:{number}: expected an object with 'key' and 'feedback' "
                        f"({error}); delete the line, it will be asked for again"
                    ) from error

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
            key: answer for key, answer in zip(asked, answers, strict=True) if answer is not None
        }
        self.known |= found
        if self.path is not None and found:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(
                    json.dumps({"key": key, "feedback": text}, ensure_ascii=False) + "\n"
                    for key, text in found.items()
                )
        return [self.known.get(key) for key in keys]


def _key(judge: str, case: JudgeCase) -> str:
    scores = (sorted(case.parts.items()), sorted(case.maxima.items()))
    content = repr((judge, case.sample, case.text, scores))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
