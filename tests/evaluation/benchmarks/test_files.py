import sys
from types import SimpleNamespace

import pytest

from lit_vdistill.evaluation.benchmarks.files import Videos, first_file, read_json, rows_of


def test_a_wrong_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no items, expected a.json or b.json; data_r"):
        first_file(tmp_path, ("a.json", "b.json"), "items")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"id": 1}, {"id"', "a.json: expected a whole JSON file, .* cut off"),
        ("a.json", "[" * 200_000, "a.json: expected a whole JSON file"),
        ("a.json", '{"v": [1], "v": [2]}', "the key 'v' stands twice"),
        ("a.json", '{"v": 1}', "a.json: expected a list of records, got a dict"),
        ("a.json", "[]", "a.json holds no record"),
        ("a.jsonl", '{"id": 1}\n{"id"', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", "\n", "a.jsonl holds no record"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        rows_of(tmp_path / name)


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.json: expected a whole JSON file"):
        read_json(tmp_path / "a.json")


def test_rows_have_places(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"t": "a\u2028b"}\n\n[2]\n')
    (tmp_path / "a.json").write_text("[1, 2]")
    path = tmp_path / "a.jsonl"
    assert rows_of(path) == [(f"{path}, line 1", {"t": "a\u2028b"}), (f"{path}, line 3", [2])]
    path = tmp_path / "a.json"
    assert rows_of(path) == [(f"{path}, row 0", 1), (f"{path}, row 1", 2)]


def test_parquet_is_read_where_pandas_is(tmp_path, monkeypatch):
    frame = SimpleNamespace(to_json=lambda orient: '[{"level": 1.0, "options": ["a"]}]')
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(read_parquet=lambda path: frame))
    path = tmp_path / "a.parquet"
    assert rows_of(path) == [(f"{path}, row 0", {"level": 1.0, "options": ["a"]})]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match=r"a\.parquet: reading .* needs pandas .* as a\.jsonl"):
        rows_of(path)


def test_videos_are_found_by_name_where_they_are_not_where_expected(tmp_path):
    for name in ("b/x.mp4", "a/x.webm", "y.MKV", "a/z.txt", "v/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    videos = Videos(tmp_path)
    assert videos.path("v/x.mp4") == "v/x.mp4"
    assert videos.path("other/x.mp4") == "a/x.webm"
    assert videos.path("other/y.mp4") == "y.MKV"
    assert videos.path("other/z.mp4") == "other/z.mp4"
