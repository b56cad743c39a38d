"""A judge over stored rollouts: how often it answers, and whether it sees what rules see."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.judge.judge import Judge, JudgeCase, is_feedback
from lit_vdistill.judge.verdict import Said, verdict_of
from lit_vdistill.media.video import MediaError
from lit_vdistill.pool.scoring import BoxConfig, PoolScorer
from lit_vdistill.readers.records import read_records
from lit_vdistill.rewards import graded_quality
from lit_vdistill.types import VideoSample

_RIGHT_FROM, _WRONG_TO = 0.9, 0.1
"""Qualities that rules call right and wrong; what lies between is partly right."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """A rollout, what rules say of it, and what the judge says."""

    case: JudgeCase
    quality: float
    feedback: str | None

    @property
    def by_rules(self) -> Said:
        """What the verifier makes of the answer."""
        if self.quality >= _RIGHT_FROM:
            return "right"
        return "wrong" if self.quality <= _WRONG_TO else "partly"


def check(
    judge: Judge,
    train_path: str,
    rollouts_path: str,
    boxes: BoxConfig | None = None,
    limit: int = 200,
) -> None:
    """Have a judge diagnose stored rollouts, and compare it with the verifier.

    Args:
        judge: Who is asked, e.g. `lit_vdistill.judge.served_judge.OpenAIJudge`.
        train_path: Records that the rollouts are about.
        rollouts_path: A run's `rollouts.jsonl`.
        boxes: Units of boxes in the rollouts' texts.
        limit: Rollouts, from the file's first on.
    """
    try:
        samples, _ = read_records(train_path, key="train_path")
        cases = list(_cases(samples, rollouts_path, PoolScorer(boxes or BoxConfig()), limit))
    except (OSError, ValueError, MediaError) as error:
        raise SystemExit(f"error: {error}") from error
    if not cases:
        raise SystemExit(f"error: {rollouts_path} has no rollout of a sample of {train_path}")
    told = judge.diagnose([case for case, _ in cases])
    checked = [
        Checked(case, quality, said if is_feedback(said) else None)
        for (case, quality), said in zip(cases, told, strict=True)
    ]
    sys.stdout.write("\n".join(report(judge, checked)) + "\n")


def report(judge: Any, checked: Sequence[Checked]) -> Iterator[str]:
    """Lines about a judge."""
    answered = [one for one in checked if one.feedback is not None]
    yield f"{judge.identity}: {len(answered)} of {len(checked)} rollouts have feedback"
    counts: Mapping[str, int] = getattr(judge, "counts", {})
    if counts:
        yield f"replies: {dict(counts)}; valid JSON at once {counts['json'] / len(checked):.2f}"
    if (spent := getattr(judge, "spent", None)) is not None:
        yield f"cost: {spent:.4f}, {spent / len(checked):.6f} a rollout"
    pairs = Counter((one.by_rules, verdict_of(one.feedback or "")) for one in answered)
    kinds: tuple[Said, ...] = ("right", "partly", "wrong", "unclear")
    yield ""
    yield "| by rules | judge: " + " | ".join(kinds) + " |"
    yield "|---|" + "---|" * len(kinds)
    for row in kinds[:3]:
        yield f"| {row} | " + " | ".join(str(pairs[row, kind]) for kind in kinds) + " |"
    clear = {pair: n for pair, n in pairs.items() if "unclear" not in pair and "partly" not in pair}
    agreed = sum(n for (ours, theirs), n in clear.items() if ours == theirs)
    total = sum(clear.values())
    yield ""
    yield (
        f"agreement where both say right or wrong: {agreed} of {total}"
        + (f" ({agreed / total:.2f})" if total else "")
    )  # fmt: skip
    for one in answered[:_SHOWN]:
        yield f"  {one.case.sample.id}, by rules {one.by_rules}: {one.feedback!r:.160}"


def _cases(
    samples: Sequence[VideoSample], path: str, scorer: PoolScorer, limit: int
) -> Iterator[tuple[JudgeCase, float]]:
    """Rollouts whose sample is known, with what their answers are worth."""
    known = {sample.id: sample for sample in samples}
    if not Path(path).is_file():
        raise FileNotFoundError(f"rollouts_path {path} does not exist")
    for place, row in jsonl.read(Path(path)):
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) for key in ("sample", "response")
        ):
            raise ValueError(f"{place}: no rollout with 'sample' and 'response': {row!r:.80}")
        if row["sample"] not in known:
            continue
        sample, _ = scorer.in_units(known[row["sample"]], ())
        parts = {
            name.removeprefix("reward/"): float(value)
            for name, value in row.items()
            if name.startswith("reward/") and name != "reward/total" and value is not None
        }
        case = JudgeCase(sample, row["response"], parts, dict.fromkeys(parts, 1.0))
        yield case, graded_quality(case.text, sample)
        limit -= 1
        if not limit:
            return
