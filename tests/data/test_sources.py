import pytest

from lit_vdistill.data.sources import SourceConfig, TrainingFile
from lit_vdistill.readers.records import write_records
from lit_vdistill.types import Evidence


@pytest.fixture
def write(make_sample, tmp_path):
    def build(name, ids):
        path = tmp_path / f"{name}.jsonl"
        write_records(path, [make_sample(id=id, evidence=Evidence()) for id in ids])
        return str(path)

    return build


def read(files):
    return SourceConfig(files, "val.jsonl", "media").read(files, "data.sources.train_path")


def test_files_are_mixed_by_their_shares(write):
    whole = write("whole", [f"a{i}" for i in range(30)])
    part = write("part", [f"b{i}" for i in range(200)])
    samples, bad = read([TrainingFile(whole), TrainingFile(part, 0.1)])
    assert bad == []
    ids = [sample.id for sample in samples]
    assert ids[:30] == [f"a{i}" for i in range(30)]
    taken = [int(id[1:]) for id in ids[30:]]
    assert len(taken) == 20
    # In the order of the file, from all of it, and the same ones each time.
    assert taken == sorted(taken)
    assert taken[0] < 50
    assert taken[-1] > 150
    assert read([TrainingFile(whole), TrainingFile(part, 0.1)])[0] == samples
    # A larger share holds the smaller one.
    more = {sample.id for sample in read([TrainingFile(part, 0.3)])[0]}
    assert len(more) == 60
    assert more > set(ids[30:])


def test_an_id_of_two_files_is_named(write):
    first, second = write("first", ["a", "b"]), write("second", ["b", "c"])
    samples, bad = read([TrainingFile(first), TrainingFile(second)])
    assert [sample.id for sample in samples] == ["a", "b", "c"]
    (only,) = bad
    assert only.id == "b"
    assert first in only.reason
    assert second in only.place


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"share of a\.jsonl must be above 0 and up to 1"):
        TrainingFile("a.jsonl", share)


def test_no_file_is_refused():
    with pytest.raises(ValueError, match=r"data\.sources\.train_path: names no file"):
        read([])
