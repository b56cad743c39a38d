"""Charades-STA: when is what a sentence says; zero-shot in VISD Table 4."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from lit_vdistill.evaluation.benchmark import Needed, rows_of_table
from lit_vdistill.evaluation.benchmarks.files import Row, Videos, first_file, read_json, samples_of
from lit_vdistill.evaluation.benchmarks.spans import SpanBenchmark
from lit_vdistill.readers.charades import is_charades, parse_charades, queries_of, query_of_line
from lit_vdistill.readers.records import BadSample
from lit_vdistill.types import VideoSample

Split = Literal["test", "iid", "ood", "novel_composition", "novel_word"]
_FILES: dict[Split, tuple[str, ...]] = {
    "test": ("charades_test.json", "Charades_sta_test.txt", "charades_sta_test.txt"),
    "iid": ("charades_test_iid.json",),
    "ood": ("charades_test_ood.json",),
    "novel_composition": ("novel_composition.json",),
    "novel_word": ("novel_word.json",),
}


_COLUMNS = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU")
_VISD = {
    "HawkEye": (50.6, 31.4, 14.5, 33.7),
    "VTG-LLM": (51.2, 33.8, 15.7, 34.4),
    "VTimeLLM": (51.0, 27.5, 11.4, 31.2),
    "Open-o3-Video-7B": (62.6, 45.6, 24.5, 42.5),
    "VisionCoach-7B": (63.2, 45.8, 24.7, 42.7),
    "VISD-7B": (67.3, 46.1, 21.6, 44.6),
}
_DESCRIBED = "https://github.com/www-Ye/Time-R1"
_VIDEOS_AT = "https://prior.allenai.org/projects/charades"


class CharadesSTA(SpanBenchmark):
    """R1@{0.3, 0.5, 0.7} and mIoU over the queries of a split."""

    name = "charades_sta"
    published = rows_of_table("VISD Table 4, zero-shot", _COLUMNS, _VISD)
    remarks = (
        "An IoU that reaches a threshold counts, as in Time-R1's script; is_strict has it exceed "
        "it.",
        "Every query counts: queries of one video and one sentence stay two, which lmms-eval takes "
        "for one, and an undecodable video scores 0, which Time-R1's script leaves out.",
        "An inverted span scores 0; lmms-eval swaps its ends. 562 of 3 720 true ends lie behind "
        "their video, and stay.",
    )

    def __init__(self, split: Split = "test", is_strict: bool = False) -> None:
        """Choose a split.

        Args:
            split: The test split, or one of those that test other words or lengths than training.
            is_strict: Whether an IoU must exceed a threshold; else it need only reach it.
        """
        super().__init__(is_strict)
        self.split: Split = split
        self.needed = (
            Needed(_FILES[split][0], "queries; 3 720 of 1 334 videos in test", _DESCRIBED),
            Needed("videos", "mp4 files by the names of their queries' videos", _VIDEOS_AT),
        )

    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """See `Benchmark`; `.json` as Time-R1 has it, or the original text of the test split."""
        path = first_file(root, _FILES[self.split], f"Charades-STA split '{self.split}'")
        videos = Videos(root)

        def parse(row: Any) -> VideoSample:
            sample = parse_charades(_line(row) if isinstance(row, str) else row)
            fills = {"length_s": sample.meta.get("duration_s", "")}
            return replace(
                sample,
                media=videos.path(f"videos/{sample.media}"),
                meta={**sample.meta, "video": sample.media, "fills": fills},
            )

        counts: dict[str, int] = {}

        def _line(line: str) -> dict[str, Any]:
            return query_of_line(line, counts)

        return samples_of(_rows(path), parse)


def _rows(path: Path) -> list[Row]:
    if path.suffix == ".txt":
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        return [(f"{path}, line {i}", line) for i, line in enumerate(lines, 1) if line.strip()]
    value = read_json(path)
    if not is_charades(value):
        raise ValueError(
            f"{path}: expected videos by name, each with 'timestamps' and 'sentences', got a "
            f"{type(value).__name__} without"
        )
    return [(f"{path}, {row['id']}", row) for row in queries_of(value)]
