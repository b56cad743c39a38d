import json

import pytest

from lit_vdistill.readers.records import read_records
from lit_vdistill.readers.time_r1 import parse_time_r1
from lit_vdistill.tasks import Task
from lit_vdistill.types import Clip

ROW = {
    "video": "./a/x.mp4", "duration": 60.0, "timestamp": [12.0, 19.5], "sentence": "the cat jumps.",
    "qid": "q-7", "video_start": None, "video_end": None, "difficulty": 0.4, "pred": [1.0, 2.0],
}  # fmt: skip


def test_rows_are_of_a_file_or_of_a_part_of_it(tmp_path):
    part = ROW | {"qid": None, "video_start": 100, "video_end": 160.0}
    path = tmp_path / "train_2k5.json"
    path.write_text(json.dumps([ROW, part, ROW]))
    samples, (twice,) = read_records(path)
    whole, cut = samples
    assert (whole.id, whole.task, whole.media) == ("q-7", Task.TEMPORAL_GROUNDING, "a/x.mp4")
    assert (whole.question, whole.evidence.spans) == ("the cat jumps.", ((12.0, 19.5),))
    assert (cut.id, cut.media) == ("time-r1-1", Clip("a/x.mp4", 100.0, 160.0))
    assert (twice.id, twice.place) == ("q-7", f"{path}, row 2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamp": [19.5, 12.0]}, "0 <= start <= end"),
        ({"timestamp": "12-19"}, "'timestamp' must be a list of 2 numbers"),
        ({"timestamp": [1, None]}, "'timestamp' must be a list of 2 numbers"),
        ({"video_start": 5}, "'media.end_s' must be a number of seconds"),
        ({"video_start": 5, "video_end": 5}, "start_s < end_s"),
        ({"duration": float("inf")}, "'duration' must be a number"),
        ({"sentence": None}, "'sentence' must be a str"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_time_r1(ROW | change, 0)
