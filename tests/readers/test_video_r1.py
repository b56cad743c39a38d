import json

import pytest

from lit_vdistill.readers.records import read_records
from lit_vdistill.readers.video_r1 import parse_video_r1
from lit_vdistill.tasks import Task

VIDEO_R1 = {
    "problem_id": 7,
    "problem": "What falls?",
    "data_type": "video",
    "problem_type": "multiple choice",
    "options": ["A. cup", "B. pen"],
    "path": "./CLEVRER/v1.mp4",
    "solution": "<answer>A</answer>",
    "process": "<think>…</think>",
}


def test_video_r1_rows(tmp_path):
    sample = parse_video_r1(VIDEO_R1)
    assert (sample.id, sample.task, sample.answer) == ("7", Task.MCQ, "A")
    assert sample.media == "CLEVRER/v1.mp4"
    assert sample.options == ("cup", "pen")
    assert sample.demonstration == "<think>…</think>\n<answer>A</answer>"
    assert parse_video_r1(VIDEO_R1 | {"process": None}).demonstration == ""
    kinds = {
        "numerical": ("3.5", Task.NUMERICAL),
        "regression": ("3.5", Task.NUMERICAL),
        "OCR": ("EXIT", Task.OCR),
        "free-form": ("a cup falls", Task.OPEN_ENDED),
    }
    for kind, (answer, task) in kinds.items():
        row = VIDEO_R1 | {
            "problem_type": kind,
            "solution": f"<answer>{answer}</answer>",
            "options": None,
        }
        assert parse_video_r1(row).task is task
    path = tmp_path / "r1.json"
    path.write_text(json.dumps([VIDEO_R1, VIDEO_R1 | {"problem_id": 8, "solution": "A"}]))
    samples, bad = read_records(path)
    assert len(samples) == 1
    assert "8" in str(bad[0])
    path.write_text('[{"problem_id": 9, "problem": NaN}, ' + json.dumps(VIDEO_R1) + "]")
    samples, (broken,) = read_records(path)
    assert ([sample.id for sample in samples], broken.id) == (["7"], "9")
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"r1\.json: not JSON"):
        read_records(path)
    assert "no <answer>" in str(bad[0])


def test_letters_of_options_are_taken_off():
    for option in ("A. cup", "A.cup", "A) cup", "(A) cup", "A: cup"):
        assert parse_video_r1(VIDEO_R1 | {"options": [option, "B. pen"]}).options == ("cup", "pen")


@pytest.mark.parametrize("options", [3, "A. cup", ["A. cup", 3]])
def test_options_that_are_none_are_named(options):
    with pytest.raises(ValueError, match="'options' must be a"):
        parse_video_r1(VIDEO_R1 | {"options": options})
