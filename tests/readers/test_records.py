import json
import math
from dataclasses import replace

import pytest

from lit_vdistill.readers.records import parse_record, read_records, write_records
from lit_vdistill.readers.schema import behind_end
from lit_vdistill.types import Clip, FrameFiles

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


def test_a_key_frame_without_a_box_is_a_time_of_its_own(tmp_path):
    """Those of boxes need not be repeated; where they are, they count once."""
    evidence = RECORD["evidence"] | {"key_times": [4, 3.0, 1.5]}
    sample = parse_record(RECORD | {"evidence": evidence})
    assert sample.evidence.moments == (1.5, 3.0, 4.0)
    write_records(tmp_path / "r.jsonl", [sample])
    assert read_records(tmp_path / "r.jsonl") == ([sample], [])
    far = replace(sample.evidence, key_times=(9.0,))
    assert behind_end(sample, last_s=5.0, tolerance_s=0.5) is None
    reason = behind_end(replace(sample, evidence=far), last_s=5.0, tolerance_s=0.5)
    assert "evidence at 9.0 s" in reason


def test_how_responses_are_read_is_no_matter_of_a_record(tmp_path):
    sample = parse_record(RECORD)
    write_records(tmp_path / "r.jsonl", [replace(sample, envelope="lenient")])
    assert read_records(tmp_path / "r.jsonl") == ([sample], [])
    with pytest.raises(ValueError, match="unknown key 'envelope'"):
        parse_record(RECORD | {"envelope": "lenient"})


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
        ({"evidence": {"spans": [[2, 5]], "key_times": 3.0}}, r"key_times' must be a list, got 3"),
        ({"evidence": {"spans": [[2, 5]], "key_times": [-1]}}, r"key_times' must be a number of s"),
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


def test_files_of_no_known_format(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.sources\.train_path"):
        read_records(tmp_path / "none.jsonl")
    (tmp_path / "r.csv").touch()
    with pytest.raises(ValueError, match=r"unknown format '\.csv'"):
        read_records(tmp_path / "r.csv")
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a list of rows, or .*, got dict"):
        read_records(tmp_path / "r.json")
    (tmp_path / "r.json").write_text('[{"prompt": "a"}, 3]')
    _, bad = read_records(tmp_path / "r.json")
    assert [b.reason.partition(" (")[0] for b in bad] == ["a row of no known format"] * 2


@pytest.mark.parametrize(("name", "start"), [("r.jsonl", b""), ("r.json", b"[]"), ("r.txt", b"\n")])
def test_an_empty_file_is_an_error(tmp_path, name, start):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(ValueError, match=rf"data\.sources\.val_path: .*{name} holds no record"):
        read_records(tmp_path / name, key="data.sources.val_path")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.txt"])
def test_another_encoding_is_an_error_of_one_line(tmp_path, name, encoding):
    (tmp_path / name).write_text(
        json.dumps(RECORD | {"question": "Où?"}, ensure_ascii=False), encoding
    )
    with pytest.raises(ValueError, match=r"data\.sources\.train_path: .* is not UTF-8 \(byte 0x"):
        read_records(tmp_path / name)


def test_a_broken_character_further_on_is_its_lines_own(tmp_path):
    line = json.dumps(RECORD).encode() + b"\n"
    (tmp_path / "r.jsonl").write_bytes(line + b"\n" * (1 << 16) + line.replace(b"v1", b"\xff"))
    samples, bad = read_records(tmp_path / "r.jsonl")
    assert (len(samples), len(bad)) == (1, 1)


@pytest.mark.parametrize("corner", [-0.01, -1e-9, 1.0, 1.01])
def test_a_box_that_overshoots_by_rounding_ends_at_the_edge(corner):
    box = [min(corner, 0.5), 0.2, max(corner, 0.6), 0.7]
    record = RECORD | {"evidence": {"spans": [[2, 5]], "boxes": [BOX | {"box": box}]}}
    (found,) = parse_record(record).evidence.boxes
    assert found.box == (max(box[0], 0.0), 0.2, min(box[2], 1.0), 0.7)


@pytest.mark.parametrize("box", [[-0.011, 0, 1, 1], [0, 0, 1, 1.02], [1.0, 0, 1.005, 1]])
def test_a_box_beyond_rounding_is_bad(box):
    record = RECORD | {"evidence": {"spans": [[2, 5]], "boxes": [BOX | {"box": box}]}}
    with pytest.raises(ValueError, match="shares of width and height"):
        parse_record(record)


CLIP = {"file": "film.mp4", "start_s": 600, "end_s": 630.5}
FRAMES = {"files": ["a/0.jpg", "a/1.jpg"], "times_s": [0, 2.5]}


@pytest.mark.parametrize(
    ("media", "source"),
    [
        (CLIP, Clip("film.mp4", 600.0, 630.5)),
        (FRAMES, FrameFiles(("a/0.jpg", "a/1.jpg"), (0.0, 2.5))),
    ],
)
def test_a_medium_may_be_a_part_of_a_file_or_frames_sampled_elsewhere(tmp_path, media, source):
    sample = parse_record(RECORD | {"media": media})
    assert (sample.media, sample.media_type) == (source, "video")
    write_records(tmp_path / "r.jsonl", [sample])
    assert read_records(tmp_path / "r.jsonl") == ([sample], [])


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ([], "'media' must be a dict"),
        ({"file": "v.mp4"}, r"'media' must be a path, \{file"),
        (CLIP | {"end_s": 600}, "start_s < end_s"),
        (CLIP | {"start_s": math.nan}, "'media.start_s' must be a number of seconds"),
        (CLIP | {"file": "a\0"}, "'media' is no path"),
        (CLIP | {"file": 3}, "'file' must be a str"),
        (FRAMES | {"times_s": [0]}, "got 2 files and 1 times"),
        (FRAMES | {"times_s": [2.5, 2.5]}, "'media.times_s' must increase"),
        (FRAMES | {"times_s": [0, math.inf]}, "'media.times_s' must be a number of seconds"),
        (FRAMES | {"times_s": 3}, "'media.times_s' must be a list"),
        (FRAMES | {"files": ["a", 1]}, "'media.files' must be a str"),
        (FRAMES | {"files": ["a", ""]}, "'media' is no path"),
        ({"files": [], "times_s": []}, "at least one"),
    ],
)
def test_mistakes_about_a_medium_are_named(media, message):
    with pytest.raises(ValueError, match=message):
        parse_record(RECORD | {"media": media})


def test_an_image_is_one_file():
    record = RECORD | {"task": "open_ended", "media_type": "image", "media": FRAMES}
    with pytest.raises(ValueError, match="'media' of an image must be a path"):
        parse_record(record)


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
