"""Small sets in the official formats, odd rows included, about clips of the embedded world."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lit_vdistill.readers.records import read_records
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample
from lit_vdistill.world.build import FILE_SCALE, build_world
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.scenes import FPS, FRAME_PX, SECONDS

CONFIG = WorldConfig(train_videos=1, val_videos=1, test_videos=3)
EDGE_PX = FRAME_PX * FILE_SCALE
Asked = Mapping[Task, VideoSample]
"""The questions about one clip, by task."""


def small_set(name: str, folder: Path) -> None:
    """Write a benchmark's annotation files, with videos below the same folder.

    Args:
        name: Of the benchmark, or of one of Charades-STA's splits as `charades_sta/ood`.
        folder: Empty or new; what `Benchmark.read` is given.
    """
    if name == "world":
        build_world(folder, CONFIG)
        return
    build_world(folder / "world", CONFIG)
    samples, _ = read_records(folder / "world/test.jsonl")
    clips: dict[str, dict[Task, VideoSample]] = {}
    for sample in samples:
        clips.setdefault(sample.meta["scene"], {})[sample.task] = sample
    _WRITERS[name](folder, clips)


def _vstar(folder: Path, clips: Mapping[str, Asked]) -> None:
    """An item a clip; the last has two boxes in one second, and ends behind its video."""
    rows = [_vstar_item(clip, asked) for clip, asked in clips.items()]
    again = dict(rows[-1]["bboxes"][0])
    rows[-1]["bboxes"].append(again | {"xmin": 0, "xmax": again["xmax"] - 1})
    rows[-1]["timestamps"][1] = SECONDS + 5.0
    _write(folder / "V_STaR_test.json", rows)


def _vstar_item(clip: str, asked: Asked) -> dict[str, Any]:
    when, where = asked[Task.TEMPORAL_GROUNDING], asked[Task.SPATIAL_GROUNDING]
    found = where.evidence.boxes[0]
    corners = [round(corner * EDGE_PX) for corner in found.box]
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    second = int(found.time_s or 0)
    return {
        "vid": clip,
        "domain": "Shapes",
        "fps": FPS,
        "width": EDGE_PX,
        "height": EDGE_PX,
        "frame_count": FPS * SECONDS,
        "question": asked[Task.OPEN_ENDED].question,
        "chain": "<think>what, when, where<think>",
        "object": found.name,
        "answer": asked[Task.OPEN_ENDED].answer,
        "temporal_question": when.question,
        "timestamps": list(when.evidence.spans[0]),
        "spatial_question": where.question,
        "spatial_question_2": where.question,
        "bboxes": [{"timestamp": second, "frame_index": second * FPS, **box}],
    }


def _charades(split: str) -> Callable[[Path, Mapping[str, Asked]], None]:
    length = "video_duration" if split.endswith(("iid", "ood")) else "duration"

    def write(folder: Path, clips: Mapping[str, Asked]) -> None:
        """One sentence twice, one that ends behind its video, one that is an instant."""
        videos = {
            clip: {
                length: float(SECONDS),
                "timestamps": [list(asked[Task.TEMPORAL_GROUNDING].evidence.spans[0])] * 2,
                "sentences": [asked[Task.TEMPORAL_GROUNDING].question] * 2,
            }
            for clip, asked in clips.items()
        }
        odd = list(videos.values())[-1]
        odd["timestamps"] = [*odd["timestamps"], [1.0, SECONDS + 0.5], [2.0, 2.0]]
        odd["sentences"] = [*odd["sentences"], "something shows.", "something flashes."]
        _write(folder / f"{split}.json", videos)

    return write


def _tvgbench(folder: Path, clips: Mapping[str, Asked]) -> None:
    """A row a clip, one of them twice; a window, an instant, an end behind the video."""
    rows = []
    for clip, asked in clips.items():
        when = asked[Task.TEMPORAL_GROUNDING]
        start, end = when.evidence.spans[0]
        rows.append(
            {
                "path": f"./data/{clip}.mp4", "question": when.question, "answer": f"{start}-{end}",
                "start": None, "end": None, "duration": float(SECONDS),
                "question_type": "video temporal grounding", "source": "Charades_sta_test.json",
                "dataset_name": "charades", "qsemtype": "Object existence simple",
                "bins": {"videolen": 1, "qcenter": 6, "qlen": 7, "dataset": "charades"},
            }
        )  # fmt: skip
    nlq = {key: value for key, value in rows[0].items() if key != "dataset_name"}
    nlq |= {"answer": "2.0-2.0", "start": 100.0, "end": 100.0 + SECONDS, "qsemtype": "counting"}
    late = rows[1] | {"answer": f"1-{SECONDS + 3}"}
    _write(folder / "tvgbench.json", [*rows, rows[0], nlq, late])


def _video_mme_v2(folder: Path, clips: Mapping[str, Asked]) -> None:
    """A group a clip, one of each kind, its questions in disorder; a level that is missing."""
    structures = ("", "[1, [2, 3], 4]", "[[1, 2], 3, 4]")
    rows: list[dict[str, Any]] = []
    for number, (clip, asked) in enumerate(clips.items(), 1):
        video = f"{number:03}"
        _copy(folder, clip, f"videos/{video}.mp4")
        for place in (2, 1, 4, 3):
            options = [*asked[Task.MCQ].options, *(f"none of them ({i})" for i in range(8))][:8]
            options[6] = "N/A"
            rows.append(
                {
                    "video_id": video, "url": "https://example.org",
                    "group_type": "logic" if structures[number - 1] else "relevance",
                    "group_structure": structures[number - 1] or "[1, 2, 3, 4]",
                    "question_id": f"{video}-{place}", "question": asked[Task.MCQ].question,
                    "options": "\n".join(f"{'ABCDEFGH'[i]}. {o}" for i, o in enumerate(options)),
                    "answer": asked[Task.MCQ].answer, "level": number if number < 3 else None,
                    "second_head": "Order", "third_head": f"Order of {place}",
                }
            )  # fmt: skip
    _write(folder / "test.json", rows)


def _video_mmmu(folder: Path, clips: Mapping[str, Asked]) -> None:
    """A lecture a clip in three tracks; ten options, an open number, an open text."""
    ids = ("dev_Art_1", "validation_Basic_Medical_Science_3", "test_Math_2")
    for name, clip in zip(ids, clips, strict=True):
        _copy(folder, clip, f"lectures/{name}.mp4")
        _copy(folder, clip, f"question_only/{name}_image.mp4")
    for track in ("Perception", "Comprehension", "Adaptation"):
        rows = []
        for name, asked in zip(ids, clips.values(), strict=True):
            mcq = asked[Task.MCQ]
            options = [*mcq.options, *(f"value {i}" for i in range(10)), "N/A"]
            row = {
                "id": name, "link_selected": "https://example.org", "question": mcq.question,
                "options": options[:9] + ["N/A"], "answer": mcq.answer,
            }  # fmt: skip
            rows.append(row | ({"question_type": "multiple-choice"} if track[0] == "A" else {}))
        if track == "Adaptation":
            number = list(clips.values())[1][Task.NUMERICAL]
            rows[1] |= {"question": number.question, "options": [], "answer": number.answer}
            rows[1] |= {"question_type": "open"}
            del rows[2]["question_type"]
        (folder / f"{track}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _longvideo_reason(folder: Path, clips: Mapping[str, Asked]) -> None:
    """A question a clip and one without options; two are about one video."""
    kinds = ("temporal", "goal", "spatial")
    rows = []
    for number, (kind, (clip, asked)) in enumerate(zip(kinds, clips.items(), strict=True)):
        mcq = asked[Task.MCQ]
        options = "\n".join(f"{'ABCDEFGH'[i]}. {option}" for i, option in enumerate(mcq.options))
        rows.append(
            {
                "problem_id": number, "problem": f"{mcq.question}\n{options}",
                "answer": f"<answer>{mcq.answer}</answer>", "videos": f"longvila_videos/{clip}.mp4",
                "problem_type": kind, "reasoning": "",
            }
        )  # fmt: skip
    bare = {"problem_id": 3, "problem": "What comes next?", "answer": "B", "problem_type": "plot"}
    _write(folder / "test.json", [*rows, rows[0] | bare])


def _copy(folder: Path, clip: str, path: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / f"world/videos/{clip}.mp4", folder / path)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1))


_WRITERS: Mapping[str, Callable[[Path, Mapping[str, Asked]], None]] = {
    "vstar": _vstar,
    "charades_sta": _charades("charades_test"),
    "charades_sta/iid": _charades("charades_test_iid"),
    "charades_sta/ood": _charades("charades_test_ood"),
    "charades_sta/novel_composition": _charades("novel_composition"),
    "charades_sta/novel_word": _charades("novel_word"),
    "tvgbench": _tvgbench,
    "video_mme_v2": _video_mme_v2,
    "video_mmmu": _video_mmmu,
    "longvideo_reason": _longvideo_reason,
}
NAMES = (*_WRITERS, "world")
