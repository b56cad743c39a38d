"""TVGBench: when is what a sentence says, 800 queries of five sources."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from lit_vdistill.evaluation.benchmark import Answered, Needed, Verdict, rows_of_table
from lit_vdistill.evaluation.benchmarks.files import Videos, first_file, rows_of, samples_of
from lit_vdistill.evaluation.benchmarks.spans import SpanBenchmark
from lit_vdistill.readers.records import BadSample
from lit_vdistill.readers.tvgbench import parse_tvgbench
from lit_vdistill.types import VideoSample

_FILE = "tvgbench.json"
_PUBLISHER = "https://github.com/xiaomi-research/time-r1"


_MIOU = {
    "LongVT-RL-7B": (10.6,),
    "Qwen2.5-VL-7B": (16.3,),
    "VideoRFT-7B": (14.3,),
    "Video-R1-7B": (9.6,),
    "Open-o3-Video-7B": (19.2,),
    "VisionCoach-7B": (21.0,),
}
_VISD = {"VISD-7B": (34.5, 24.5, 13.4, 24.8)}


class TVGBench(SpanBenchmark):
    """R1@{0.3, 0.5, 0.7}, mIoU, and the mean of the four; by kind of query and by source."""

    name = "tvgbench"
    scores = {**SpanBenchmark.scores, "avg": "mean of mIoU and the three recalls"}
    needed = (
        Needed(_FILE, "800 queries, 0.5 MB", _PUBLISHER),
        Needed("videos", "clips, cut out beforehand where a row has start and end", _PUBLISHER),
    )
    published = (
        *rows_of_table("VISD Table 2", ("mIoU",), _MIOU),
        *rows_of_table("VISD Table 10", ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU"), _VISD),
    )
    remarks = (
        "An IoU must exceed a threshold, as in the official script; without is_strict it need only "
        "reach it.",
        "11 true spans have no length, so that no answer scores on them and mIoU is 98.6 % at the "
        "most; the official script divides 0 by 0 where such an answer meets one, here that is 0.",
        "252 queries are about a part of a longer video; their file is that part, cut out "
        "beforehand, and times count from its start.",
    )

    def __init__(self, is_strict: bool = True) -> None:
        """Choose what a threshold asks for.

        Args:
            is_strict: Whether an IoU must exceed it, as officially; else it need only reach it.
        """
        super().__init__(is_strict)

    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """See `Benchmark`; rows have no ids and may stand twice, and are called by their number."""
        rows = rows_of(first_file(root, (_FILE,), "queries of TVGBench"))
        videos = Videos(root)

        def parse(numbered: Mapping[str, Any]) -> VideoSample:
            sample = parse_tvgbench(numbered["row"], numbered["number"])
            meta = sample.meta
            return replace(
                sample,
                media=videos.path(str(sample.media)),
                meta={
                    "video": sample.media,
                    "duration_s": meta["duration_s"],
                    "groups": [f"qsemtype/{meta['kind']}", f"source/{meta['source']}"],
                    "fills": {"length_s": meta["duration_s"]},
                },
            )

        numbered = [
            (place, {"id": f"tvgbench-{number}", "number": number, "row": row})
            for number, (place, row) in enumerate(rows)
        ]
        return samples_of(numbered, parse)

    def _verdict(self, one: Answered) -> Verdict:
        found = super()._verdict(one)
        return replace(found, values={**found.values, "avg": mean(found.values.values())})
