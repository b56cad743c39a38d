import json
import threading
import time
from types import SimpleNamespace

import pytest

from lit_vdistill.tracking import predictions
from lit_vdistill.tracking.predictions import Prediction, PredictionFile, read_predictions
from lit_vdistill.types import Clip, Facts, FrameFiles, Rollout


@pytest.fixture
def predict(make_sample):
    def build(name, text="<answer>B</answer>", **changes):
        answer = Rollout(name, 0, (5, 7), (-0.5, float("-inf")), text, False, 0.0)
        sample = make_sample(id=name, meta={"level": "easy"}, **changes)
        asked = "What? Two\u2028lines"
        return Prediction(sample, answer, (0.0, 1.5), {"score": 1.0}, (answer,), asked).row()

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
        "media_type": "video",
        "frame_times_s": [0.0, 1.5],
        "prompt": "What? Two\u2028lines",
        "question": "What?",
        "options": ["cat", "dog", "cow"],
        "truth": {
            "answer": "B",
            "spans": [[2.0, 8.0]],
            "boxes": [{"time_s": 3.0, "name": "dog", "box": [0.0, 0.0, 100.0, 100.0]}],
            "key_times": [],
        },
        "facts": {"things": [], "words": {}, "asked": []},
        "envelope": "strict",
        "response": "U+2028 \u2028 is text",
        "is_truncated": False,
        "problem": None,
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


def test_no_part_goes_before_the_file_is_written_and_none_is_left_behind_it(
    tmp_path, predict, together, monkeypatch
):
    path, seen = tmp_path / "p.jsonl", []
    write = predictions.jsonl.write

    def slow(file, rows):
        if file == path:
            time.sleep(0.2)  # the others have nothing left to do by then
            seen.append(sorted(part.name for part in tmp_path.glob("*.part*")))
        write(file, rows)

    monkeypatch.setattr(predictions.jsonl, "write", slow)

    def run(rank):
        file = PredictionFile(path)
        file.add([predict(f"s{rank}")])
        file.finish(["s0", "s1", "s2"].index)
        return list(tmp_path.glob("*.part*"))

    assert together(3, run) == [[]] * 3
    assert seen == [["p.part0.jsonl", "p.part1.jsonl", "p.part2.jsonl"]]


def test_what_a_dead_run_had_answered_is_kept_beside_an_older_file(tmp_path, predict):
    path = tmp_path / "test.jsonl"
    path.write_text("{}\n")
    PredictionFile(path).add([predict("s1")])
    assert path.read_text() == "{}\n"
    assert json.loads((tmp_path / "test.part0.jsonl").read_text())["id"] == "s1"


def test_a_run_goes_on_behind_what_dead_runs_of_other_sizes_have_answered(
    tmp_path, predict, together
):
    path, names = tmp_path / "predictions.jsonl", [f"s{i}" for i in range(7)]

    def start(rank):
        file = PredictionFile(path, goes_on=True)
        file.add([predict(names[rank])])
        return file.known

    assert together(3, start) == [set()] * 3
    with (tmp_path / "predictions.part2.jsonl").open("a") as torn:
        torn.write('{"id": "s9", "resp')

    def go_on(rank):
        file = PredictionFile(path, goes_on=True)
        file.add(predict(name) for name in names[rank::2] if name not in file.known)
        file.finish(names.index)
        return file.known

    assert together(2, go_on) == [{"s0", "s1", "s2"}] * 2
    assert [json.loads(line)["id"] for line in path.open()] == names
    assert list(tmp_path.iterdir()) == [path]
    assert together(1, lambda _: PredictionFile(path, goes_on=True).known) == [set(names)]


def test_a_question_that_could_not_be_put_is_asked_again(tmp_path, predict, make_sample):
    path, unread = tmp_path / "p.jsonl", Prediction(make_sample(id="s2"), None, (), {}, problem="x")
    file = PredictionFile(path)
    file.add([predict("s1"), unread.row()])
    file.finish(["s1", "s2"].index)
    assert PredictionFile(path, goes_on=True).known == {"s1"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"media": Clip("film.mp4", 3.0, 9.5)},
        {"media": FrameFiles(("a.jpg", "b.jpg"), (0.0, 1.5))},
        {"media": None, "media_type": "text"},
        {"envelope": "lenient", "options": ()},
        {"facts": Facts(({"colour": "red"},), {"colour": ("red", "blue")}, ("colour",))},
    ],
)
def test_what_is_written_is_read_again(tmp_path, predict, changes, make_sample):
    path = tmp_path / "predictions.jsonl"
    file = PredictionFile(path)
    file.add([predict("s1", "U+2028 \u2028", **changes)])
    file.finish({"s1": 0}.get)
    (found,) = read_predictions(path)
    assert found.sample == make_sample(id="s1", meta={"level": "easy"}, **changes)
    assert (found.text, found.sampled, found.problem) == ("U+2028 \u2028", ("U+2028 \u2028",), None)


def test_a_question_that_could_not_be_put_and_a_cut_answer_have_a_problem(tmp_path, make_sample):
    path, cut = tmp_path / "p.jsonl", Rollout("s2", 0, (5,), (-0.5,), "<think>", True, 0.0)
    file = PredictionFile(path)
    unread = Prediction(make_sample(id="s1"), None, (), {"score": 0.0}, problem="v.mp4: torn")
    file.add([unread.row(), Prediction(make_sample(id="s2"), cut, (), {"score": 0.0}).row()])
    file.finish(["s1", "s2"].index)
    first, second = read_predictions(path)
    assert (first.text, first.problem) == ("", "v.mp4: torn")
    assert (second.text, second.problem) == ("<think>", "cut off")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"truth": None}, "no prediction"),
        ({"task": "dance"}, "must be one of"),
        ({"media": {"file": 1}}, "'media' must be"),
    ],
)
def test_a_line_that_is_no_prediction_is_named(tmp_path, predict, change, told):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(predict("s1") | change | {"logprobs": []}) + "\n")
    with pytest.raises(ValueError, match=rf"p\.jsonl, line 1.*{told}"):
        read_predictions(path)
    path.write_text('{"id": "s1"}\n')
    with pytest.raises(ValueError, match="no key 'truth'"):
        read_predictions(path)
    with pytest.raises(FileNotFoundError, match="no predictions"):
        read_predictions(tmp_path / "none.jsonl")
