"""Video-MME-v2: groups of four questions a video, scored together (VISD Table 3)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_vdistill.evaluation.benchmark import (
    Answered,
    Needed,
    ScoredItem,
    Verdict,
    cluster_of,
    groups_of,
    rows_of_table,
)
from lit_vdistill.evaluation.benchmarks.choices import ChoiceBenchmark
from lit_vdistill.evaluation.benchmarks.files import Row, Videos, first_file, rows_of
from lit_vdistill.readers.options import bare_options, split_options
from lit_vdistill.readers.records import BadSample
from lit_vdistill.readers.schema import checked, expect, text_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample

NUM_QUESTIONS = 4
_PUBLISHER = "https://huggingface.co/datasets/MME-Benchmarks/Video-MME-v2"
_FILES = ("test.parquet", "test.jsonl", "test.json")
_CHAIN, _MIDDLE, _START = "[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]"
_WORTH = {
    _CHAIN: (0.0, 1 / 16, 4 / 16, 9 / 16, 1.0),
    _MIDDLE: (0.0, 1 / 12, 4 / 12, 7 / 12, 1.0),
    _START: (0.0, 0.1, 0.2, 0.5, 1.0),
}
"""By structure, what the length of the right beginning is worth."""
_COLUMNS = (
    "nonlinear", "level/1/nonlinear", "level/2/nonlinear", "level/3/nonlinear", "consistency",
    "coherence", "accuracy",
)  # fmt: skip
_VISD = {
    "Qwen2.5-VL-7B": (7.9, 11.4, 6.7, 6.7, 8.2, 7.3, 21.3),
    "VideoRFT-7B": (8.2, 11.8, 7.4, 6.8, 8.8, 7.2, 21.7),
    "Video-R1-7B": (7.7, 11.1, 6.7, 6.4, 8.0, 7.2, 20.7),
    "Open-o3-Video-7B": (7.8, 11.0, 6.9, 6.6, 8.3, 6.9, 21.2),
    "VisionCoach-7B": (8.6, 12.1, 7.3, 7.5, 9.0, 7.9, 22.1),
    "VISD-7B": (9.4, 13.4, 8.2, 7.9, 10.2, 8.0, 23.8),
}


class VideoMMEv2(ChoiceBenchmark):
    """The non-linear score of groups, its halves by kind of group, and plain accuracy.

    Groups belong to the level and the heads of their last question.
    """

    name = "video_mme_v2"
    headline = "nonlinear"
    scores = {
        "nonlinear": "mean score of the groups",
        "consistency": "mean score of the groups about one thing (relevance)",
        "coherence": "mean score of the groups that build on each other (logic)",
        "accuracy": "share of right letters of all questions",
        "robustness": "nonlinear as a share of accuracy",
    }
    needed = (
        Needed(_FILES[0], "3 200 questions in 800 groups", _PUBLISHER),
        Needed("videos", "800 videos by their number, 40 archives", _PUBLISHER),
    )
    published = rows_of_table("VISD Table 3, 64 frames, without subtitles", _COLUMNS, _VISD)
    remarks = (
        "A letter that cannot be read is wrong; the standalone script takes -1, which lowers the "
        "sum of a relevance group and counts as right in a logic group.",
        "Without subtitles, as in VISD Table 3: those that belong to the sampled frames are not "
        "known where questions are read.",
        "Questions of a group stand in the order of their ids, whatever the order of the file.",
    )

    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """See `Benchmark`; a group that is not whole, or of an unknown structure, is bad."""
        path = first_file(root, _FILES, "questions of Video-MME-v2")
        videos = Videos(root)
        groups: dict[str, list[Row]] = {}
        samples: list[VideoSample] = []
        bad: list[BadSample] = []
        for place, row in rows_of(path):
            video = row.get("video_id") if isinstance(row, dict) else None
            if isinstance(video, str) and video:
                groups.setdefault(video, []).append((place, row))
            else:
                bad.append(BadSample("?", place, f"'video_id' must be a text, got {video!r:.80}"))
        for video, rows in groups.items():
            place = rows[0][0]
            try:
                samples += _group(video, rows, videos.path(f"videos/{video}.mp4"))
            except ValueError as error:
                bad.append(BadSample(video, place, str(error)))
        return samples, bad

    def items(self, answered: Sequence[Answered], verdicts: Sequence[Verdict]) -> list[ScoredItem]:
        """See `Benchmark`; a group each."""
        found: dict[str, dict[int, tuple[VideoSample, bool]]] = {}
        for one, verdict in zip(answered, verdicts, strict=True):
            meta, is_right = one.sample.meta, verdict.values["accuracy"] > 0
            found.setdefault(str(meta["item"]), {})[meta["number"]] = one.sample, is_right
        return [_item(item, parts) for item, parts in found.items()]

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Robustness, where anything is right."""
        if not means.get("accuracy"):
            return {}
        return {"robustness": means["nonlinear"] / means["accuracy"]}


def consistency(rights: Sequence[bool]) -> float:
    """What a group about one thing is worth: the square of its share of right answers."""
    return (sum(rights) / len(rights)) ** 2


def coherence(rights: Sequence[bool], structure: str) -> float:
    """What a group that builds on itself is worth: only what is right from the beginning counts.

    Of two questions that stand beside each other, the second alone counts as the first would; this
    is done once, so that what follows both is not reached by it.

    Args:
        rights: Of the four questions, in order.
        structure: Which questions build on which, as `checked_structure` gives it.
    """
    length = next((i for i, is_right in enumerate(rights) if not is_right), len(rights))
    if structure == _MIDDLE and length == 1 and rights[2]:
        length = 2
    if structure == _START and length == 0 and rights[1]:
        length = 1
    return _WORTH[structure][length]


def checked_structure(raw: Any) -> str:
    """The structure of a logic group, without white space.

    Raises:
        ValueError: For one that the official scores do not know.
    """
    try:
        structure = json.dumps(
            json.loads(expect(raw, str, "group_structure")), separators=(",", ":")
        )
    except (ValueError, RecursionError):
        structure = ""
    if structure not in _WORTH:
        raise ValueError(f"'group_structure' must be one of {list(_WORTH)}, got {raw!r:.80}")
    return structure


def _item(item: str, parts: Mapping[int, tuple[VideoSample, bool]]) -> ScoredItem:
    if sorted(parts) != list(range(1, NUM_QUESTIONS + 1)):
        raise ValueError(
            f"Video-MME-v2 group {item} needs answers to its questions 1 to {NUM_QUESTIONS}, got "
            f"{sorted(parts)}"
        )
    ordered = [parts[number] for number in sorted(parts)]
    rights = [is_right for _, is_right in ordered]
    last = ordered[-1][0]
    if structure := str(last.meta["structure"]):
        name, worth = "coherence", coherence(rights, structure)
    else:
        name, worth = "consistency", consistency(rights)
    values = {"nonlinear": worth, name: worth, "accuracy": sum(rights) / len(rights)}
    ids = tuple(sample.id for sample, _ in ordered)
    return ScoredItem(item, cluster_of(last), values, groups_of(last), ids)


def _group(video: str, rows: Sequence[Row], media: str) -> list[VideoSample]:
    """The questions of a group in order."""
    numbered = sorted((_number(row), row) for _, row in rows) if len(rows) == NUM_QUESTIONS else []
    numbers = [number for number, _ in numbered] or [_number(row) for _, row in rows]
    if sorted(numbers) != list(range(1, NUM_QUESTIONS + 1)):
        raise ValueError(
            f"a group must have the questions {video}-1 to {video}-{NUM_QUESTIONS}, got the "
            f"numbers {numbers!r:.80}"
        )
    last = numbered[-1][1]
    kind = text_of(last, "group_type")
    if kind not in ("relevance", "logic"):
        raise ValueError(f"'group_type' must be relevance or logic, got '{kind:.80}'")
    if any((row.get("group_type"), row.get("group_structure"))
           != (kind, last.get("group_structure")) for _, row in numbered):  # fmt: skip
        raise ValueError("'group_type' and 'group_structure' must be the same in a group")
    structure = checked_structure(last.get("group_structure")) if kind == "logic" else ""
    heads = ("level", "second_head", "third_head")
    named = {head: last.get(head) for head in heads}
    groups = [f"{head}/{_name(value)}" for head, value in named.items() if _name(value)]
    return [
        _question(row, media, {
            "video": video, "item": video, "number": number, "structure": structure,
            "groups": groups,
        })
        for number, row in numbered
    ]  # fmt: skip


def _question(row: Mapping[str, Any], media: str, meta: Mapping[str, Any]) -> VideoSample:
    written = text_of(row, "options")
    lines = [line.strip() for line in written.splitlines() if line.strip()]
    options = bare_options(lines)
    if list(options) == lines:
        _, options = split_options(written)
    return checked(
        VideoSample(
            id=text_of(row, "question_id"),
            task=Task.MCQ,
            question=text_of(row, "question"),
            answer=text_of(row, "answer").strip(),
            media=media,
            options=options,
            meta=meta,
        )
    )


def _number(row: Mapping[str, Any]) -> int:
    suffix = text_of(row, "question_id").rpartition("-")[2]
    if not (suffix.isascii() and suffix.isdigit() and len(suffix) < 3):
        raise ValueError(f"'question_id' must end in -1 to -4, got {row['question_id']!r:.80}")
    return int(suffix)


def _name(value: Any) -> str:
    """A level or a head; empty where a group has none. A table of floats has levels as such."""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return "" if value in (None, "None") else str(value)
