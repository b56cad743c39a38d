import logging
from dataclasses import replace

import pytest

from lit_vdistill.pool.store import PoolStore
from lit_vdistill.types import TeacherResponse

ONE = TeacherResponse("s1", 0, "<think>ü</think>\n<answer>A</answer>", "m", 1.0, 0.9)


@pytest.fixture
def store(tmp_path):
    store = PoolStore(tmp_path / "deep" / "pool.jsonl")
    assert store.append([replace(ONE, index=1), ONE, replace(ONE, sample_id="s2")]) == 3
    return store


def test_round_trip_orders_each_pool_by_index(store):
    pools = store.load()
    assert list(pools) == ["s1", "s2"]
    assert pools["s1"] == (ONE, replace(ONE, index=1))


def test_a_crash_in_mid_line_loses_that_line_only(store, caplog):
    with store.path.open("ab") as file:
        file.write(b'{"sample_id": "s3", "ind')
    with caplog.at_level(logging.WARNING):
        assert set(store.load()) == {"s1", "s2"}
    assert "incomplete" in caplog.text
    store.append([replace(ONE, sample_id="s3")])
    assert set(store.load()) == {"s1", "s2", "s3"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "line 4: not JSON"),
        ("[]", "line 4: expected the keys"),
        ('{"sample_id": "s"}', "line 4: expected the keys"),
        (
            '{"sample_id": "s", "index": "0", "text": "", "model": "m", '
            '"temperature": 1, "top_p": 1}',
            "'index' must be int, got '0'",
        ),
        (
            '{"sample_id": "s", "index": 0, "text": "a \\ud800", "model": "m", '
            '"temperature": 1, "top_p": 1}',
            r"line 4: 'text' holds half a surrogate pair",
        ),
    ],
)
def test_malformed_lines_are_named(store, line, message):
    with store.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        store.load()


def test_the_same_response_twice_is_an_error(store):
    store.append([ONE])
    with pytest.raises(ValueError, match="response 0 of sample 's1' stands twice"):
        store.load()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.sources\.pool_path"):
        PoolStore(tmp_path / "none.jsonl").load()


def test_fingerprint_is_of_the_contents(store, tmp_path):
    other = PoolStore(tmp_path / "other.jsonl")
    other.append([replace(ONE, sample_id="s2"), ONE, replace(ONE, index=1)])
    assert other.fingerprint() == store.fingerprint()
    other.append([replace(ONE, sample_id="s4")])
    assert other.fingerprint() != store.fingerprint()
