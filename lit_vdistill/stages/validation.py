"""Scoring generated answers on held-out samples, the same way for every stage."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torchmetrics import Metric

from lit_vdistill import processes
from lit_vdistill.metrics.grounding import BoxIoU, TemporalIoU, TemporalRecall
from lit_vdistill.metrics.grouped import GroupedMean
from lit_vdistill.pool.quality import FACT_SHARES, answer_score, greedy_scores
from lit_vdistill.responses import grammar
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import (
    Reward,
    reward_breakdown,
    rule_score,
)
from lit_vdistill.tasks import Task
from lit_vdistill.types import Rollout, VideoSample

_RECALLS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class ValidationConfig:
    """What is generated for held-out samples."""

    num_samples: int = 8
    """Sampled answers beside the greedy one, k of `mean_at_k`; 0 for none."""
    temperature: float = 1.0
    """Temperature of the sampled answers."""


class Validation(nn.Module):
    """Metrics of one greedy answer and k sampled answers a held-out sample.

    - `score`: of the greedy answer. Closed-ended: `answer_quality` (R-MSD Eq. 2). Open-ended: mean
      ROUGE-1/2/L F1 against the annotated text, a lexical proxy that is only reported, never
      trained on.
    - `mean_at_k`: the same, averaged over the k sampled answers.
    - `reward`: rule rewards of the sampled answers as a share of their maximum; samples that no
      rule pays for do not count. `reward_part/<name>`: over the samples that a reward applies to.
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
        self.rewards, self.num_sampled = list(rewards), num_samples
        self.sampled_key = f"mean_at_{num_samples}"
        names = ["score", "format_rate", *FACT_SHARES]
        names += [self.sampled_key, "reward"] if num_samples else []
        tasks = [str(task) for task in Task]
        self.grouped = nn.ModuleDict({name: GroupedMean(tasks) for name in names})
        parts = [reward.name for reward in rewards] if num_samples else []
        self.reward_parts = GroupedMean(parts)
        self.tiou, self.box_iou = TemporalIoU(), BoxIoU()
        self.recalls = nn.ModuleList([TemporalRecall(threshold) for threshold in _RECALLS])

    def update(
        self, sample: VideoSample, greedy: Rollout, sampled: Sequence[Rollout]
    ) -> dict[str, float]:
        """Add one sample with its answers, and say what each of them is worth."""
        task = str(sample.task)
        parsed = parse_response(greedy.text, sample.envelope)
        worth = greedy_scores(greedy.text, sample)
        if sampled:
            worth |= self._add_sampled(sample, sampled)
        for name, value in worth.items():
            self._grouped(name).update([value], [task])
        if sample.task.answers_span:
            span, truth = grammar.time_span(parsed.answer), sample.evidence.spans[0]
            for metric in (self.tiou, *self._recalls()):
                metric.update([span], [truth])
        if sample.task.answers_box:
            self.box_iou.update([grammar.first_box(parsed.answer)], [sample.evidence.boxes[0].box])
        return worth

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

    def num_samples(self) -> dict[str, int]:
        """How many samples each value of `compute` is about; a collective of all processes."""
        counts: dict[str, float] = {}
        for name in self.grouped:
            metric = self._grouped(name)
            counts[name] = float(metric.counts.sum())
            by_group = zip(metric.groups, metric.counts.tolist(), strict=True)
            counts |= {f"{name}/{group}": count for group, count in by_group}
        rollouts = zip(self.reward_parts.groups, self.reward_parts.counts.tolist(), strict=True)
        counts |= {f"reward_part/{name}": count / self.num_sampled for name, count in rollouts}
        counts |= {"tIoU": float(self.tiou.count), "box_iou": float(self.box_iou.count)}
        counts |= {f"R@{metric.threshold}": float(metric.count) for metric in self._recalls()}
        return {name: round(n) for name, n in processes.sum_over(counts).items() if n}

    def reset(self) -> None:
        """Forget everything that was added."""
        for metric in self._metrics():
            metric.reset()

    def _add_sampled(self, sample: VideoSample, sampled: Sequence[Rollout]) -> dict[str, float]:
        scores = [answer_score(rollout.text, sample) for rollout in sampled]
        parts = [reward_breakdown(self.rewards, rollout, sample) for rollout in sampled]
        applying = [reward.name for reward in self.rewards if reward.applies_to(sample)]
        for part in parts:
            self.reward_parts.update([part[name] for name in applying], applying)
        worth = {self.sampled_key: sum(scores) / len(scores)}
        shares = [rule_score(self.rewards, part, sample) for part in parts]
        paid = [share for share in shares if share is not None]
        return worth | ({"reward": sum(paid) / len(paid)} if paid else {})

    def _grouped(self, name: str) -> GroupedMean:
        metric = self.grouped[name]
        assert isinstance(metric, GroupedMean)
        return metric

    def _recalls(self) -> list[TemporalRecall]:
        return [metric for metric in self.recalls if isinstance(metric, TemporalRecall)]

    def _metrics(self) -> list[Metric]:
        grouped = [self._grouped(name) for name in self.grouped]
        return [*grouped, self.reward_parts, self.tiou, self.box_iou, *self._recalls()]
