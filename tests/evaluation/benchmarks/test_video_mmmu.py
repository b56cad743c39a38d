import json
from statistics import mean

import pytest

from lit_vdistill.evaluation.benchmark import Answered
from lit_vdistill.evaluation.benchmarks.video_mmmu import VideoMMMU
from lit_vdistill.tasks import Task

TEN = [f"value {i}" for i in range(9)] + ["N/A"]


def record(name, **changes):
    return {
        "id": name, "link_selected": "https://example.org", "question": "What is drawn?",
        "options": TEN, "answer": "J",
    } | changes  # fmt: skip


ADAPTATION = [
    record("dev_Art_1", question_type="multiple-choice"),
    record("dev_Math_2"),
    record("test_Basic_Medical_Science_3", question_type="open", options=[], answer="0.33"),
    record("dev_Finance_4", question_type="multiple-choice"),
]


def write(folder, adaptation=ADAPTATION):
    for track in ("Perception", "Comprehension"):
        (folder / f"{track}.jsonl").write_text(json.dumps(record("dev_Art_1")) + "\n")
    (folder / "Adaptation.json").write_text(json.dumps(adaptation))


def scores(benchmark, samples, texts):
    answered = [Answered(one, texts.get(one.id, "")) for one in samples]
    items = benchmark.items(answered, benchmark.verdicts(answered))
    keys = {key for item in items for key in item.values}
    means = {key: mean(i.values[key] for i in items if key in i.values) for key in keys}
    return items, means | benchmark.derived(means)


def test_knowledge_by_hand(tmp_path):
    """Of four, one is right before and after, one gained, one lost, one wrong throughout."""
    write(tmp_path)
    benchmark = VideoMMMU()
    samples, bad = benchmark.read(tmp_path)
    assert (len(samples), bad) == (10, [])
    texts = {
        "perception-dev_Art_1": "J",
        "adaptation-dev_Art_1": "The answer is J.",
        "question_only-dev_Art_1": "(J)",
        "adaptation-dev_Math_2": "J",
        "question_only-dev_Math_2": "A",
        "adaptation-test_Basic_Medical_Science_3": "x = 0.331",
        "question_only-test_Basic_Medical_Science_3": "it is 1/3",
        "question_only-dev_Finance_4": "J",
    }
    items, found = scores(benchmark, samples, texts)
    assert len(items) == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert (found["after"], found["before"]) == (0.75, 0.5)
    assert found["delta_knowledge"] == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    # Gained: Math and Medicine, of the two that were wrong; lost: Finance, of the two right.
    assert found["wrong2right"] == pytest.approx(2 / 2)
    assert found["right2wrong"] == pytest.approx(1 / 2)
    assert found.keys() == VideoMMMU.scores.keys()
    assert items[0].questions == ()
    assert items[2].questions == ("adaptation-dev_Art_1", "question_only-dev_Art_1")
    assert items[4].groups == ("track/adaptation", "discipline/Medicine")


def test_knowledge_may_fall_and_may_have_no_room():
    derived = VideoMMMU().derived
    worse = derived({"before": 0.5, "after": 0.25, "gained": 0.0, "lost": 0.25})
    assert worse == {"delta_knowledge": -0.5, "wrong2right": 0.0, "right2wrong": 0.5}
    assert derived({"before": 1.0, "after": 1.0, "gained": 0, "lost": 0}) == {"right2wrong": 0}
    assert "right2wrong" not in derived({"before": 0.0, "after": 1.0, "gained": 1, "lost": 0})
    assert derived({"accuracy": 1.0}) == {}


def test_without_questions_before_the_lecture_there_is_no_knowledge(tmp_path):
    write(tmp_path)
    benchmark = VideoMMMU(asks_before=False)
    samples, _ = benchmark.read(tmp_path)
    assert len(samples) == 6
    _, found = scores(benchmark, samples, {})
    assert found == {"accuracy": 0.0}
    assert len(benchmark.needed) == len(VideoMMMU().needed) - 1


def test_records(tmp_path):
    write(tmp_path)
    by_id = {one.id: one for one in VideoMMMU().read(tmp_path)[0]}
    first = by_id["adaptation-dev_Art_1"]
    assert (first.task, first.options[9], first.answer) == (Task.MCQ, "N/A", "J")
    assert first.media == "Art/dev_Art_1.mp4"
    before = by_id["question_only-dev_Art_1"]
    assert before.media == "question_only/dev_Art_1_image.mp4"
    assert before.meta["item"] == first.id
    assert before.meta["kind"] == "question_only"
    assert first.meta["fills"] == {"question": "What is drawn?"}
    assert first.question.startswith("What is drawn?\nThe video teaches")
    # A missing type with options is multiple choice; an open one has none.
    assert by_id["adaptation-dev_Math_2"].task is Task.MCQ
    opened = by_id["adaptation-test_Basic_Medical_Science_3"]
    assert (opened.task, opened.options, opened.answer) == (Task.OPEN_ENDED, (), "0.33")
    assert opened.meta["kind"] == "adaptation_open"
    assert opened.media == "Medicine/test_Basic_Medical_Science_3.mp4"


def test_a_broken_question_counts_once_and_one_id_twice_stays_two(tmp_path):
    rows = [record("dev_Art_1"), record("dev_Art_1", answer="A"), record("dev_Art_2", answer="K")]
    write(tmp_path, rows)
    benchmark = VideoMMMU()
    samples, bad = benchmark.read(tmp_path)
    assert [one.id for one in bad] == ["dev_Art_2"]
    assert len({one.id for one in samples}) == len(samples) == 6
    texts = {"adaptation-dev_Art_1#2": "A", "question_only-dev_Art_1": "J"}
    items, found = scores(benchmark, samples, texts)
    assert [item.id for item in items[2:]] == ["adaptation-dev_Art_1", "adaptation-dev_Art_1#2"]
    assert (found["gained"], found["lost"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": "A"}, "'options' must be a list"),
        ({"options": [3]}, "'options' must be a str"),
        ({"answer": None}, "'answer' must be a text or a list of texts"),
        ({"answer": "K"}, "must be the letter of one of the options"),
        ({"options": [], "answer": []}, "'answer' must be a text"),
        ({"question": 3}, "'question' must be a str"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    write(tmp_path, [record("dev_Art_1", **change)])
    _, (bad,) = VideoMMMU().read(tmp_path)
    assert message in bad.reason


def test_a_missing_track_and_a_missing_answer_are_named(tmp_path):
    write(tmp_path)
    benchmark = VideoMMMU()
    samples, _ = benchmark.read(tmp_path)
    early = [one for one in samples if one.meta["track"] == "question_only"]
    with pytest.raises(ValueError, match="needs an answer to adaptation-dev_Art_1"):
        scores(benchmark, early, {})
    (tmp_path / "Perception.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="track 'perception' of Video-MMMU"):
        benchmark.read(tmp_path)


def test_no_text_is_wrong_with_a_problem(tmp_path):
    write(tmp_path)
    benchmark = VideoMMMU()
    samples, _ = benchmark.read(tmp_path)
    for verdict in benchmark.verdicts([Answered(one, "") for one in samples]):
        assert verdict.values == {"accuracy": 0.0}
        assert verdict.problem
