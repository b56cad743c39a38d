"""Scoring generated answers on held-out samples, the same way for every stage."""

import math
from collections.abc import Sequence

from torch import nn
from torchmetrics import Metric

from lit_vdistill.metrics import BoxIoU, GroupedMean, TemporalIoU, TemporalRecall
from lit_vdistill.responses import grammar
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import (
    Reward,
    answer_quality,
    count_facts,
    reward_breakdown,
    rouge_f1,
    rule_score,
)
from lit_vdistill.types import Rollout, Task, VideoSample

_TASKS = [str(task) for task in Task]
_RECALLS = (0.3, 0.5, 0.7)
_FACT_SHARES = ("facts", "facts_wrong", "facts_missing")
_TEMPORAL = (Task.TEMPORAL_GROUNDING, Task.TEMPORAL_MCQ)


class Validation(nn.Module):
    """Metrics of one greedy answer and k sampled answers a held-out sample.

    - `score`: of the greedy answer. Closed-ended: `answer_quality` (R-MSD Eq. 2). Open-ended: mean
      ROUGE-1/2/L F1 against the annotated text, a lexical proxy that is only reported, never
      trained on.
    - `mean_at_k`: the same, averaged over the k sampled answers.
    - `reward`: rule rewards of the sampled answers as a share of their maximum.
    - `facts`, `facts_wrong`, `facts_missing`: of the greedy answer to an open question that knows
      its facts; shares that sum to 1 (`rewards/facts.py`).
    - `tIoU`, `R@m`, `box_iou`, `format_rate`: of the greedy answers.
    """

    def __init__(self, rewards: Sequence[Reward], num_samples: int) -> None:
        """Set up.

        Args:
            rewards: The rule rewards that are reported.
            num_samples: k of `mean_at_k`; 0 leaves sampled answers out.
        """
        super().__init__()
        self.rewards = list(rewards)
        self.sampled_key = f"mean_at_{num_samples}"
        names = ["score", "format_rate", *_FACT_SHARES]
        grouped = {name: GroupedMean(_TASKS) for name in names}
        if num_samples:
            grouped |= {self.sampled_key: GroupedMean(_TASKS), "reward": GroupedMean(_TASKS)}
        self.grouped = nn.ModuleDict(grouped)
        parts = [reward.name for reward in rewards] if num_samples else []
        self.reward_parts = GroupedMean(parts)
        self.tiou, self.box_iou = TemporalIoU(), BoxIoU()
        self.recalls = nn.ModuleList([TemporalRecall(threshold) for threshold in _RECALLS])

    def update(self, sample: VideoSample, greedy: Rollout, sampled: Sequence[Rollout]) -> None:
        """Add one sample with its answers."""
        task = str(sample.task)
        parsed = parse_response(greedy.text)
        self._grouped("score").update([answer_score(greedy.text, sample)], [task])
        self._grouped("format_rate").update([float(parsed.problem is None)], [task])
        if sample.facts.asked:
            counts = count_facts(parsed.answer if parsed.problem is None else "", sample.facts)
            for name, share in zip(_FACT_SHARES, counts.shares, strict=True):
                self._grouped(name).update([share], [task])
        if sample.task in _TEMPORAL:
            span, truth = grammar.time_span(parsed.answer), sample.evidence.spans[0]
            for metric in (self.tiou, *self._recalls()):
                metric.update([span], [truth])
        if sample.task is Task.SPATIAL_GROUNDING:
            self.box_iou.update([grammar.first_box(parsed.answer)], [sample.evidence.boxes[0].box])
        if sampled:
            self._add_sampled(sample, sampled)

    def compute(self) -> dict[str, float]:
        """All metrics, flat; `<name>/<task>` beside `<name>`. Resets nothing."""
        for metric in self._metrics():
            metric.update([], [])  # torchmetrics warns where nothing was added, which ours may be
        flat = {}
        for name in self.grouped:
            for group, value in self._grouped(name).compute().items():
                flat[name if group == "overall" else f"{name}/{group}"] = float(value)
        parts = self.reward_parts.compute()
        flat |= {f"reward_part/{k}": float(v) for k, v in parts.items() if k != "overall"}
        # Computed on every rank, as computing synchronises them; NaN where no item was added.
        flat |= {"tIoU": float(self.tiou.compute()), "box_iou": float(self.box_iou.compute())}
        for metric in self._recalls():
            flat[f"R@{metric.threshold}"] = float(metric.compute())
        return {name: value for name, value in flat.items() if not math.isnan(value)}

    def reset(self) -> None:
        """Forget everything that was added."""
        for metric in self._metrics():
            metric.reset()

    def _add_sampled(self, sample: VideoSample, sampled: Sequence[Rollout]) -> None:
        task = str(sample.task)
        scores = [answer_score(rollout.text, sample) for rollout in sampled]
        self._grouped(self.sampled_key).update([sum(scores) / len(scores)], [task])
        parts = [reward_breakdown(self.rewards, rollout, sample) for rollout in sampled]
        shares = [rule_score(self.rewards, part, sample) for part in parts]
        self._grouped("reward").update([sum(shares) / len(shares)], [task])
        for part in parts:
            self.reward_parts.update(list(part.values()), list(part))

    def _grouped(self, name: str) -> GroupedMean:
        metric = self.grouped[name]
        assert isinstance(metric, GroupedMean)
        return metric

    def _recalls(self) -> list[TemporalRecall]:
        return [metric for metric in self.recalls if isinstance(metric, TemporalRecall)]

    def _metrics(self) -> list[Metric]:
        grouped = [self._grouped(name) for name in self.grouped]
        return [*grouped, self.reward_parts, self.tiou, self.box_iou, *self._recalls()]


def answer_score(text: str, sample: VideoSample) -> float:
    """How good one response is, in [0, 1]: task metric, or mean ROUGE F1 for open-ended tasks."""
    parsed = parse_response(text)
    if sample.task.is_closed_ended:
        return answer_quality(parsed, sample)
    if parsed.problem is not None:
        return 0.0
    return rouge_f1(parsed.answer, sample.answer)
