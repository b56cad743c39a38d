import json
import re
import shutil
import tracemalloc

import pytest

from lit_vdistill.data import tools
from lit_vdistill.types import Clip


@pytest.fixture
def root(world, tmp_path):
    folder = tmp_path / "world"
    shutil.copytree(world, folder)
    return folder


def check(root):
    return tools.check(
        train_path=str(root / "train.jsonl"),
        media_root=str(root),
        val_path=str(root / "val.jsonl"),
        test_path=str(root / "test.jsonl"),
        pool_path=str(root / "pool.jsonl"),
    )


def edit(path, change):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    change(records)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_the_embedded_world_is_clean(root, capsys):
    check(root)
    out = capsys.readouterr().out
    assert "54 records" in out
    assert "teacher pool: 36 samples, responses a sample {8: 36}" in out
    assert re.search(r"teacher pool: \d+ boxes count to about 9\d across and 9\d down", out)
    assert re.search(
        r"teacher pool: 2\d\d of 288 responses \([89]\d\.\d%\) can be parsed, others", out
    )
    assert out.endswith("0 problems\n")


def test_no_later_split_holds_what_an_earlier_one_has(root, capsys):
    shutil.copy(root / "videos/val00000.mp4", root / "videos/test00000.mp4")

    def rename(records):
        records[0] |= {"id": "train00003-ocr", "media": "videos/test00001.mp4"}

    shutil.copy(root / "videos/train00003.mp4", root / "videos/test00001.mp4")
    with (root / "videos/test00001.mp4").open("ab") as file:
        file.write(b"\0")  # another file of the same pictures
    edit(root / "test.jsonl", rename)
    with pytest.raises(SystemExit):
        check(root)
    out = capsys.readouterr().out
    assert "train00003-ocr (test): the id is in train too" in out
    assert out.count("the same file as val medium 'videos/val00000.mp4'") == 8
    assert out.endswith("9 problems\n")


def test_every_kind_of_problem_is_named(root, capsys):
    (root / "videos/train00000.mp4").write_bytes(b"broken")
    (root / "videos/train00001.mp4").unlink()
    shutil.copy(root / "videos/train00002.mp4", root / "videos/val00000.mp4")

    def spoil(records):
        records[27]["evidence"]["spans"] = [[2.0, 60.0]]
        records[28]["task"] = "binry"
        records[30] |= {key: records[29][key] for key in ("question", "options")}
        records[31]["id"] = "not-in-the-pool"

    edit(root / "train.jsonl", spoil)
    with pytest.raises(SystemExit) as stop:
        check(root)
    assert stop.value.code == 1
    told = capsys.readouterr()
    out = told.out
    assert "train media" in told.err
    for part in (
        "train00000-mcq (videos/train00000.mp4): pyav: ",
        "train00001-mcq (videos/train00001.mp4): the file does not exist",
        "val00000-mcq (videos/val00000.mp4): the same file as train medium",
        "evidence at 60.0 s, but the video's last frame is at 7.00 s",
        "'task' must be one of",
        "asks the same about the same medium as",
        "not-in-the-pool",
        "has no teacher response",
        "matches no training sample",
    ):
        assert part in out, part


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"does not exist"),
        (b"", r"holds no record"),
        (b"\xff\xfe{\0", r"is not UTF-8 \(byte 0xff at 0\)"),
    ],
)
def test_a_file_that_is_none_is_an_error_of_one_line(root, content, message):
    (root / "train.jsonl").unlink()
    if content is not None:
        (root / "train.jsonl").write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        check(root)
    assert re.fullmatch(
        rf"error: train_path \(data\.sources\.train_path\): .*{message}.*", stop.value.code
    )


def test_a_pool_of_bare_texts_is_named_with_its_rate(root, capsys):
    def strip(records):
        for record in records:
            record["text"] = "The answer is B."

    edit(root / "pool.jsonl", strip)
    with pytest.raises(SystemExit):
        check(root)
    out = capsys.readouterr().out
    assert "0 of 288 responses (0.0%) can be parsed: bare texts without <think>" in out
    assert "others: {'no_think': 288}" in out
    (root / "pool.jsonl").write_bytes(b"")
    with pytest.raises(SystemExit):
        check(root)
    assert "the pool holds no response" in capsys.readouterr().out
    (root / "pool.jsonl").write_bytes(b"{\n")
    with pytest.raises(
        SystemExit, match=r"^error: pool_path \(data\.sources\.pool_path\): .*line 1"
    ):
        check(root)


def test_a_truth_without_length_and_a_file_that_is_longer_than_its_record(root, capsys):
    def spoil(records):
        timed = [record for record in records if record["task"] == "temporal_grounding"]
        timed[0]["evidence"]["spans"] = [[3.0, 3.0]]
        timed[1]["meta"]["duration_s"] = 4.0

    edit(root / "train.jsonl", spoil)
    with pytest.raises(SystemExit):
        check(root)
    out = capsys.readouterr().out
    assert "its true segment has no length: 3.0 s" in out
    assert "the record is about 4.0 s, but its video's last frame is at 7.00 s: cut" in out
    assert out.endswith("2 problems\n")


def test_media_are_hashed_in_pieces(tmp_path):
    path = tmp_path / "v.mp4"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    whole, again = tools._digest([path], "v.mp4"), tools._digest([path], "w.mp4")
    part = tools._digest([path], Clip("v.mp4", 0.0, 1.0))
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    assert whole == again != part


def test_world_is_written_once_and_never_overwritten(tmp_path, capsys):
    from lit_vdistill.world.build import build_world
    from lit_vdistill.world.config import WorldConfig

    small = WorldConfig(train_videos=1, val_videos=1, test_videos=1)
    tools.world(str(tmp_path / "w"), small)
    stamp = (tmp_path / "w/train.jsonl").stat().st_mtime_ns
    build_world(tmp_path / "w", small)
    assert (tmp_path / "w/train.jsonl").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="another size, seed, teacher or version"):
        build_world(tmp_path / "w", WorldConfig(train_videos=2, val_videos=1, test_videos=1))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        build_world(tmp_path / "mine", small)
