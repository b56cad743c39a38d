import json
import logging
import math

import pytest

from lit_vdistill import jsonl
from lit_vdistill.jsonl import LineError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "rows.jsonl"


def values(path):
    return [value for _, value in jsonl.read(path)]


TEXTS = ["ü", "a\u2028b\u0085c", "\U0001f600", "tab\tand\nline", "", "\x00"]


def test_what_is_written_is_read(path):
    rows = [{"text": text, "number": 0.1} for text in TEXTS]
    assert jsonl.append(path, rows[:3]) == 3
    assert jsonl.append(path, rows[3:]) == 3
    assert values(path) == rows
    assert path.read_bytes().count(b"\n") == 6
    jsonl.write(path, rows[:1])
    assert values(path) == rows[:1]
    assert list(path.parent.iterdir()) == [path]


def test_half_a_surrogate_pair_survives(path):
    jsonl.append(path, [{"text": "a\ud800b"}])
    path.read_bytes().decode("utf-8")
    assert values(path) == [{"text": "a\ud800b"}]


def test_numbers_that_are_none_become_null(path):
    jsonl.append(path, [{"a": math.nan, "b": [math.inf, (1.5, -math.inf)], "c": 2}])
    assert values(path) == [{"a": None, "b": [None, [1.5, None]], "c": 2}]


@pytest.mark.parametrize("cut", [1, 5, 12, 17])
def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_append(path, caplog, cut):
    jsonl.append(path, [1])
    torn = json.dumps({"text": "häß"}, ensure_ascii=False).encode()[:cut]
    with path.open("ab") as file:
        file.write(torn)
    with caplog.at_level(logging.WARNING):
        assert values(path) == ([1] if cut < 17 else [1, {"text": "häß"}])
    assert ("line 2: incomplete" in caplog.text) == (cut < 17)
    jsonl.append(path, [2])
    assert values(path) == ([1, 2] if cut < 17 else [1, {"text": "häß"}, 2])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON .*utf-8"),
        (b"NaN", "NaN is no number"),
        (b"[1e999]", "1e999 is beyond every number"),
        (b"-" + b"9" * 309, "more than 18 digits"),
        (b"[" * 100_000, "nested too deeply|not JSON"),
        (b'"' + b"x" * 10_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named_in_one_short_line(path, line, reason):
    jsonl.append(path, [1])
    with path.open("ab") as file:
        file.write(line + b"\n2\n")
    with pytest.raises(LineError, match=rf"rows\.jsonl, line 2: .*({reason})") as caught:
        values(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_empty_lines_and_a_byte_order_mark_are_passed_over(path):
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf1\n\n  \n2\n")
    assert list(jsonl.read(path)) == [(f"{path}, line 1", 1), (f"{path}, line 4", 2)]


def test_a_file_is_replaced_whole_or_not_at_all(path):
    jsonl.write(path, [1, 2])

    def rows():
        yield 3
        raise RuntimeError

    with pytest.raises(RuntimeError):
        jsonl.write(path, rows())
    assert values(path) == [1, 2]
