import json
import threading
from types import SimpleNamespace

import pytest

from lit_vdistill.tracking import predictions
from lit_vdistill.tracking.predictions import Prediction, PredictionFile
from lit_vdistill.types import Rollout


@pytest.fixture
def predict(make_sample):
    def build(name, text="<answer>B</answer>", **changes):
        answer = Rollout(name, 0, (5, 7), (-0.5, float("-inf")), text, False, 0.0)
        sample = make_sample(id=name, meta={"level": "easy"}, **changes)
        return Prediction(sample, answer, (0.0, 1.5), {"score": 1.0}, (answer,)).row()

    return build


@pytest.fixture
def together(monkeypatch):
    """Runs a function as several processes that know of each other: threads."""

    def run(count, task):
        barrier, ranks, shared = threading.Barrier(count), threading.local(), [None] * count

        def gather(value):
            shared[ranks.now] = value
            barrier.wait()
            values = list(shared)
            barrier.wait()
            return values

        known = SimpleNamespace(gather=gather, rank=lambda: ranks.now)
        monkeypatch.setattr(predictions, "processes", known)
        found = [None] * count

        def start(rank):
            ranks.now = rank
            found[rank] = task(rank)

        threads = [threading.Thread(target=start, args=(rank,)) for rank in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        return found

    return run


def test_a_row_has_the_question_its_truth_and_its_frames(tmp_path, predict):
    file = PredictionFile(tmp_path / "new" / "test.jsonl")
    file.add([predict("s1", "U+2028 \u2028 is text")])
    rows = file.finish({"s1": 0}.get)
    assert rows == [json.loads((tmp_path / "new" / "test.jsonl").read_bytes())]
    assert rows[0] == {
        "id": "s1",
        "task": "mcq",
        "meta": {"level": "easy"},
        "media": "v.mp4",
        "frame_times_s": [0.0, 1.5],
        "question": "What?",
        "options": ["cat", "dog", "cow"],
        "truth": {
            "answer": "B",
            "spans": [[2.0, 8.0]],
            "boxes": [{"time_s": 3.0, "name": "dog", "box": [0.0, 0.0, 100.0, 100.0]}],
            "key_times": [],
        },
        "response": "U+2028 \u2028 is text",
        "is_truncated": False,
        "scores": {"score": 1.0},
        "sampled": ["U+2028 \u2028 is text"],
        "completion_ids": [5, 7],
        "logprobs": [-0.5, None],
    }


@pytest.mark.parametrize("count", [1, 3])
def test_several_processes_leave_one_file_in_the_order_of_the_split(
    tmp_path, predict, together, monkeypatch, count
):
    monkeypatch.setattr(predictions, "_ROWS_AT_ONCE", 2)
    path, names = tmp_path / "validate.jsonl", [f"s{i}" for i in range(10)]
    path.write_text("an older one\n")

    def run(rank):
        file = PredictionFile(path)
        mine = names[rank::count]
        file.add(predict(name) for name in mine[:1])
        file.add(predict(name) for name in mine[1:])
        return len(file.finish(names.index))

    assert together(count, run) == [10, *[0] * (count - 1)]
    assert [json.loads(line)["id"] for line in path.open()] == names
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_dead_run_had_answered_is_kept_beside_an_older_file(tmp_path, predict):
    path = tmp_path / "test.jsonl"
    path.write_text("{}\n")
    PredictionFile(path).add([predict("s1")])
    assert path.read_text() == "{}\n"
    assert json.loads((tmp_path / "test.part0.jsonl").read_text())["id"] == "s1"
