"""Does token credit find the tokens that are wrong? The area under its ROC, by condition.

-Δ (VISD Eqs. 3-4) is a detector of wrong tokens: the area under its ROC curve is the chance that a
wrong token has a lower Δ than a right one of the same kind in the same task. 0.5 is blind. Truth is
`metrics/token_truth.py`; what it cannot tell is left out and counted.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import rankdata
from transformers import ProcessorMixin

from experiments.bootstrap import error_over_videos
from experiments.credit_conditions import CONDITIONS, Ratios
from lit_vdistill.metrics.token_truth import marks, token_marks
from lit_vdistill.models.tokens import token_spans
from lit_vdistill.stages.step import Experience

Located = dict[str, dict[str, float]]
"""By task and in all: each condition's area and its standard error, and how many tokens."""


@dataclass(frozen=True, slots=True)
class JudgedToken:
    """A sampled token whose truth is known."""

    task: str
    kind: str
    video: str
    is_wrong: bool
    log_ratio: Mapping[str, float]
    """Δ by condition."""


def area(tokens: Sequence[JudgedToken], condition: str) -> float:
    """Area under the ROC of -Δ for wrong tokens against right ones of their task and kind.

    An area for each task and kind, averaged by its number of pairs; NaN where no kind has both.
    """
    strata: dict[tuple[str, str], tuple[list[float], list[bool]]] = defaultdict(lambda: ([], []))
    for token in tokens:
        scores, truth = strata[token.task, token.kind]
        scores.append(-token.log_ratio[condition])
        truth.append(token.is_wrong)
    total = pairs = 0.0
    for scores, truth in strata.values():
        wrong = sum(truth)
        count = wrong * (len(truth) - wrong)
        if count:
            # Mann and Whitney's U is the area times the number of pairs; ties count half.
            ranks = rankdata(scores)[np.array(truth)].sum()
            total += ranks - wrong * (wrong + 1) / 2
            pairs += count
    return float(total / pairs) if pairs else float("nan")


def judge_tokens(
    processor: ProcessorMixin, experience: Experience, ratios: Ratios
) -> Iterator[JudgedToken | None]:
    """Every token of an experience that states something; None for one that is unclear."""
    rows = [(group.sample, rollout) for group in experience.groups for rollout in group.rollouts]
    for row, (sample, rollout) in enumerate(rows):
        spans = token_spans(processor, rollout.completion_ids)
        for place, mark in enumerate(token_marks(marks(rollout.text, sample), spans)):
            if mark is None:
                continue
            if mark.verdict == "unclear":
                yield None
                continue
            yield JudgedToken(
                task=str(sample.task),
                kind=mark.kind,
                video=str(sample.media),
                is_wrong=mark.verdict == "wrong",
                log_ratio={name: float(found[row, place]) for name, found in ratios.items()},
            )


def report(tokens: Sequence[JudgedToken], num_unclear: int) -> Located:
    """By task and in all: area and standard error of every condition, and of how many tokens."""
    groups = {"all": list(tokens)}
    for token in tokens:
        groups.setdefault(token.task, []).append(token)
    found: Located = {}
    for name, members in groups.items():
        wrong = sum(token.is_wrong for token in members)
        found[name] = {"wrong_tokens": wrong, "right_tokens": len(members) - wrong}
        for condition in CONDITIONS:
            found[name][condition] = area(members, condition)
            error = error_over_videos(members, partial(area, condition=condition))
            found[name][f"{condition}_error"] = error
    found["all"]["unclear_tokens"] = num_unclear
    return found


def table(found: Located) -> str:
    """The report in Markdown, a row a condition."""
    lines = ["| condition | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for name in CONDITIONS:
        cells = [f"{row[name]:.2f} ± {row[f'{name}_error']:.2f}" for row in found.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name in ("wrong", "right"):
        cells = [f"{row[f'{name}_tokens']:.0f}" for row in found.values()]
        lines.append(f"| {name} tokens | " + " | ".join(cells) + " |")
    lines.append(f"\n{found['all']['unclear_tokens']:.0f} tokens were unclear and are left out.")
    return "\n".join(lines)
