import json

import pytest

from lit_vdistill.readers.records import read_records
from lit_vdistill.readers.tvgbench import parse_tvgbench
from lit_vdistill.tasks import Task

ROW = {
    "path": "./data/KWZSA.mp4", "question": "a person was sitting at a table.",
    "answer": "13.4-28.1", "start": None, "end": None, "duration": 30.12,
    "question_type": "video temporal grounding", "source": "Charades_sta_test.json",
    "dataset_name": "charades", "qsemtype": "Human Pose", "bins": {"videolen": 1},
}  # fmt: skip


def test_all_rows_stay(tmp_path):
    """The same pair twice, a part of a source, a truth of no length, an end behind the video."""
    nlq = {key: value for key, value in ROW.items() if key != "dataset_name"}
    nlq |= {"answer": "5.0-5.0", "start": 100.0, "end": 130.12}
    path = tmp_path / "tvgbench.json"
    path.write_text(json.dumps([ROW, ROW, nlq, ROW | {"answer": "13-40"}]))
    samples, bad = read_records(path)
    assert bad == []
    assert [sample.id for sample in samples] == [f"tvgbench-{i}" for i in range(4)]
    first, _, clip, late = samples
    assert (first.task, first.media) == (Task.TEMPORAL_GROUNDING, "data/KWZSA.mp4")
    assert first.evidence.spans == ((13.4, 28.1),)
    assert first.meta == {"source": "charades", "kind": "Human Pose", "duration_s": 30.12}
    # Its file is the clip already, cut out beforehand.
    assert (clip.media, clip.meta["source"]) == ("data/KWZSA.mp4", "nlq")
    assert clip.evidence.spans == ((5.0, 5.0),)
    assert late.evidence.spans == ((13.0, 40.0),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "13.4 to 28.1"}, "'answer' must be 'START-END'"),
        ({"answer": "1.2.3-4"}, "'answer' must be a list of 2 numbers"),
        ({"answer": "9" * 400 + "-1"}, "'answer' must be 'START-END'"),
        ({"answer": "\u0661-\u0662"}, "'answer' must be 'START-END'"),
        ({"answer": "8-3"}, "0 <= start <= end"),
        ({"path": None}, "'path' must be a str"),
        ({"duration": None}, "'duration' must be a number"),
        ({"question": ""}, "must not be empty"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_tvgbench(ROW | change, 0)
