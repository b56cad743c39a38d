"""Temporal grounding of one sentence: what Charades-STA and TVGBench have in common."""

import operator
from collections.abc import Mapping, Sequence

from lit_vdistill.evaluation.benchmark import Answered, Benchmark, Verdict
from lit_vdistill.evaluation.benchmarks.answers import NO_SPAN, read_span
from lit_vdistill.responses.geometry import temporal_iou

THRESHOLDS = (0.3, 0.5, 0.7)


class SpanBenchmark(Benchmark):
    """R1@m and mIoU over all queries; an answer without a span, or an inverted one, scores 0.

    Truths that end behind the video or have no length stay: the first can still be met in part, the
    second by nothing, as in the official scripts.
    """

    headline = "mIoU"
    right = "R1@0.5"
    scores: Mapping[str, str] = {
        "mIoU": "mean temporal IoU",
        **{f"R1@{m}": f"share of queries with an IoU of {m}" for m in THRESHOLDS},
    }

    def __init__(self, is_strict: bool) -> None:
        """Choose what a threshold asks for.

        Args:
            is_strict: Whether an IoU must exceed it; else it need only reach it.
        """
        self.passes = operator.gt if is_strict else operator.ge

    def verdicts(self, answered: Sequence[Answered]) -> list[Verdict]:
        """See `Benchmark`."""
        return [self._verdict(one) for one in answered]

    def _verdict(self, one: Answered) -> Verdict:
        span = read_span(one.text)
        iou = 0.0 if span is None else temporal_iou(span, one.sample.evidence.spans[0])
        recalls = {f"R1@{m}": float(self.passes(iou, m)) for m in THRESHOLDS}
        return Verdict({"mIoU": iou, **recalls}, NO_SPAN if span is None else None)
