"""The embedded world's test split: our own records, scored as validation scores them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lit_vdistill.evaluation.benchmark import Answered, Benchmark, Needed, Verdict
from lit_vdistill.pool.quality import greedy_scores
from lit_vdistill.readers.records import BadSample, read_records
from lit_vdistill.responses.geometry import temporal_iou
from lit_vdistill.responses.grammar import parse_response, time_span
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig

_RIGHT_FROM = 0.5


class World(Benchmark):
    """The score of greedy answers, by task and level; temporal IoU where a segment is asked for."""

    name = "world"
    headline = "score"
    right = "right"
    scores = {
        "score": "the task's metric; of open questions mean ROUGE-1/2/L F1",
        "format_rate": "share of responses whose envelope is valid",
        "tIoU": "mean temporal IoU of the questions that ask for a segment",
        "facts": "share of asked facts that answers to open questions state",
        "right": f"share of answers to closed questions with a score of {_RIGHT_FROM}",
    }
    remarks = (
        "Rendered videos of moving shapes with known truth, no public benchmark.",
        "Answers are read strictly, as training reads them: outside a valid envelope all is wrong.",
    )

    def __init__(self, file: str = "test.jsonl", world: WorldConfig | None = None) -> None:
        """Choose the records.

        Args:
            file: Below the root.
            world: Rendered into the root where it is missing; None for records that are there.
        """
        self.file, self.world = file, world
        how = "python -m lit_vdistill data world"
        self.needed = (Needed(file, "questions, nine a video", how), Needed("videos", "mp4", how))

    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """See `Benchmark`; any file in our own format will do."""
        if self.world is not None:
            build_world(root, self.world)
        samples, bad = read_records(root / self.file, key="data_root")
        return [_grouped(sample) for sample in samples], bad

    def verdicts(self, answered: Sequence[Answered]) -> list[Verdict]:
        """See `Benchmark`."""
        return [_verdict(one) for one in answered]

    def num_options(self, sample: VideoSample) -> int | None:
        """Yes or no are two."""
        return 2 if sample.task is Task.BINARY else super().num_options(sample)


def _grouped(sample: VideoSample) -> VideoSample:
    level = sample.meta.get("level")
    groups = [f"task/{sample.task}", *([f"level/{level}"] if level else [])]
    return replace(sample, meta={**sample.meta, "groups": groups})


def _verdict(one: Answered) -> Verdict:
    found, parsed = (
        greedy_scores(one.text, one.sample),
        parse_response(one.text, one.sample.envelope),
    )
    values = {name: found[name] for name in ("score", "format_rate", "facts") if name in found}
    if one.sample.task.is_closed_ended:
        values["right"] = float(found["score"] >= _RIGHT_FROM)
    if one.sample.task.answers_span:
        span = time_span(parsed.answer) if parsed.problem is None else None
        truth = one.sample.evidence.spans[0]
        values["tIoU"] = 0.0 if span is None else temporal_iou(span, truth)
    return Verdict(values, parsed.problem)
