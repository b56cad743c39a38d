import json
import math

import pytest

from lit_vdistill.readers.records import parse_record, parse_video_r1, read_records, write_records
from lit_vdistill.types import Task

BOX = {"time_s": 3.0, "name": "cup", "box": [0.1, 0.2, 0.4, 0.6]}
RECORD = {
    "id": "v1",
    "task": "temporal_grounding",
    "media": "v.mp4",
    "question": "When?",
    "answer": "[2.0, 5.0]",
    "evidence": {
        "spans": [[2.0, 5.0]],
        "boxes": [{"time_s": 3.0, "name": "cup", "box": [0.1, 0.2, 0.4, 0.6]}],
    },
    "facts": {
        "things": [{"colour": "red"}],
        "words": {"colour": ["red", "blue"]},
        "asked": ["colour"],
    },
}


def test_round_trip(tmp_path):
    sample = parse_record(RECORD)
    write_records(tmp_path / "r.jsonl", [sample])
    assert read_records(tmp_path / "r.jsonl") == ([sample], [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "temporal_groundin"}, "'task' must be one of"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"id": ""}, "must not be empty"),
        ({"question": None}, "'question' must be a str, got None"),
        ({"answer": ""}, "'answer' must not be empty"),
        ({"media": None, "media_type": "video"}, "'media' is None but 'media_type' is 'video'"),
        ({"media_type": "text"}, "'media_type' is 'text'"),
        ({"media_type": "audio"}, "must be video, image or text"),
        ({"evidence": {}}, r"needs 'evidence\.spans'"),
        ({"evidence": {"spans": [[5, 2]]}}, "0 <= start <= end"),
        ({"evidence": {"spans": [[5]]}}, "list of 2 numbers"),
        ({"evidence": {"spans": [[1, True]]}}, "list of 2 numbers"),
        ({"facts": []}, "'facts' must be a dict"),
        ({"facts": {"thing": []}}, r"unknown key 'facts\.thing'"),
        ({"facts": {"things": ["red"]}}, r"'facts\.things' must be a dict, got 'red'"),
        ({"facts": {"things": [{"colour": 1}]}}, r"'facts\.things\.colour' must be a str, got 1"),
        ({"facts": {"things": [{"colour": "red"}]}}, r"words of 'facts\.words\.colour', got 'red'"),
        ({"facts": {"words": {"colour": "red"}}}, r"'facts\.words\.colour' must be a list"),
        ({"facts": {"words": {"colour": [" "]}}}, r"'facts\.words\.colour' must hold words"),
        ({"facts": {"words": {"a": ["red"], "b": ["Red"]}}}, "'Red' has two: a and b"),
        ({"facts": {"asked": ["colour"]}}, r"'facts\.asked' must name kinds .* got 'colour'"),
        ({"task": "mcq", "answer": "C", "options": ["x", "y"]}, r"\['A', 'B'\], got 'C'"),
        ({"task": "binary"}, "must be yes or no"),
        ({"task": "numerical", "answer": "two"}, "must be a plain number"),
        ({"task": "numerical", "answer": "\u0663"}, "must be a plain number"),
        ({"task": "numerical", "answer": "1" * 5000}, "must be a plain number"),
        ({"task": "spatial_grounding", "evidence": {}}, r"needs 'evidence\.boxes'"),
        ({"question": " \n"}, "must not be empty"),
        ({"question": "half \ud800"}, "'question' holds half a surrogate pair"),
        ({"options": ["half \udfff"]}, r"'options\[0\]' holds half a surrogate pair"),
        ({"media": "v\0.mp4"}, "'media' is no path"),
        ({"media": None}, "task 'temporal_grounding' needs 'media'"),
        ({"evidence": {"spans": [[0, math.inf]]}}, "finite"),
        ({"evidence": {"spans": [[0, math.nan]]}}, "finite"),
        ({"evidence": {"spans": [[0, 10**400]]}}, "finite"),
        *(
            ({"evidence": {"spans": [[2, 5]], "boxes": [BOX | {"time_s": time_s}]}}, "seconds >= 0")
            for time_s in (math.nan, -0.5, True, math.inf, "3", 10**400)
        ),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_record(RECORD | change)


def test_boxes_in_pixels_are_refused():
    record = json.loads(json.dumps(RECORD))
    record["evidence"]["boxes"][0]["box"] = [10, 20, 40, 60]
    with pytest.raises(ValueError, match="shares of width and height"):
        parse_record(record)


def test_bad_lines_are_collected_with_their_place(tmp_path):
    path = tmp_path / "r.jsonl"
    lines = [
        json.dumps(RECORD),
        "{",
        json.dumps(RECORD),
        json.dumps(RECORD | {"id": "v2", "task": "x"}),
    ]
    path.write_text("\n".join(lines) + "\n\n")
    samples, bad = read_records(path)
    assert [sample.id for sample in samples] == ["v1"]
    assert [(b.id, b.place.rsplit(", ")[1]) for b in bad] == [
        ("?", "line 2"),
        ("v1", "line 3"),
        ("v2", "line 4"),
    ]


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


def test_files_of_no_known_format(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.sources\.train_path"):
        read_records(tmp_path / "none.jsonl")
    (tmp_path / "r.csv").touch()
    with pytest.raises(ValueError, match=r"unknown format '\.csv'"):
        read_records(tmp_path / "r.csv")
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a list of rows, got dict"):
        read_records(tmp_path / "r.json")


def test_a_question_beyond_the_limit_is_a_bad_sample(tmp_path):
    path = tmp_path / "r.jsonl"
    long = RECORD | {"id": "v2", "question": "x" * 90, "options": ["y" * 11]}
    path.write_text(json.dumps(RECORD) + "\n" + json.dumps(long) + "\n")
    samples, (bad,) = read_records(path, max_text_chars=100)
    assert [sample.id for sample in samples] == ["v1"]
    assert "101 characters, at most 100 (data.sources.max_text_chars)" in str(bad)
    assert len(read_records(path, max_text_chars=101)[0]) == 2


@pytest.mark.parametrize("line", ["NaN", "{" * 10_000, '"\\ud800"', '{"id": "\\ud800"}', "[1e999]"])
def test_what_no_program_should_write_is_a_bad_sample(tmp_path, line):
    path = tmp_path / "r.jsonl"
    path.write_text(line + "\n" + json.dumps(RECORD) + "\n")
    samples, (bad,) = read_records(path)
    assert [sample.id for sample in samples] == ["v1"]
    str(bad).encode()


@pytest.mark.parametrize("option", ["A. cup", "A.cup", "A) cup", "A: cup", "cup"])
def test_letters_of_options_are_taken_off(option):
    assert parse_video_r1(VIDEO_R1 | {"options": [option, "B. pen"]}).options == ("cup", "pen")
