import json

import pytest

from lit_vdistill.evaluation.benchmark import Answered
from lit_vdistill.evaluation.benchmarks.longvideo_reason import LongVideoReason
from lit_vdistill.tasks import Task

RECORD = {
    "problem_id": 7, "problem": "Why?\nA. cat\nB. dog\nC. cow\nD. pig",
    "answer": "<answer>B</answer>", "videos": "longvila_videos/v.webm", "problem_type": "goal",
}  # fmt: skip


def read(folder, *rows):
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return LongVideoReason().read(folder)


def test_records(tmp_path):
    bare = RECORD | {"problem": "What next?", "problem_id": 8}
    odd = RECORD | {"problem": "Why?\nA. cat", "answer": "C"}
    (sample, free, leaked), bad = read(tmp_path, RECORD, bare, odd)
    assert bad == []
    assert (sample.id, sample.task, sample.answer) == ("longvideo-reason-7", Task.MCQ, "B")
    assert (sample.question, sample.options) == ("Why?", ("cat", "dog", "cow", "pig"))
    assert sample.as_written == sample.meta["fills"]["question"] == RECORD["problem"]
    assert (sample.media, sample.meta["groups"]) == ("longvila_videos/v.webm", ["kind/goal"])
    assert (free.task, free.question) == (Task.OPEN_ENDED, "What next?")
    # One number twice stays two questions.
    assert (leaked.id, leaked.options) == ("longvideo-reason-7#2", ())


@pytest.mark.parametrize(
    ("text", "accuracy", "strict", "formed"),
    [
        ("<think>t</think>\n<answer>B</answer>", 1, 1, 1),
        ("<think>t</think><answer>B. dog</answer>", 1, 0, 1),
        ("<think>t</think><answer>Therefore the final answer is: B</answer>", 1, 0, 1),
        ("<think>t</think><answer>C</answer>", 0, 0, 1),
        ("so <think>t</think><answer>B</answer>", 1, 1, 0),
        ("<answer>B</answer>", 1, 1, 0),
        ("The answer is B.", 1, 0, 0),
        ("<think>B</think>", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_scores_by_hand(tmp_path, text, accuracy, strict, formed):
    (sample,), _ = read(tmp_path, RECORD)
    (verdict,) = LongVideoReason().verdicts([Answered(sample, text)])
    assert verdict.values == {"accuracy": accuracy, "strict": strict, "format_rate": formed}
    assert (verdict.problem is None) == (accuracy == 1 or "C" in text)


def test_a_question_without_options_is_right_letter_for_letter(tmp_path):
    (sample,), _ = read(tmp_path, RECORD | {"problem": "What next?"})
    texts = ("<answer>B</answer>", "(B)", "C", "dog", "")
    verdicts = LongVideoReason().verdicts([Answered(sample, text) for text in texts])
    assert [verdict.values["accuracy"] for verdict in verdicts] == [1, 1, 0, 0, 0]
    assert verdicts[-1].problem == "no answer"


def test_two_questions_about_one_video_are_two_items_of_one_cluster(tmp_path):
    samples, _ = read(tmp_path, RECORD, RECORD | {"problem_id": 8})
    benchmark = LongVideoReason()
    answered = [Answered(one, "B") for one in samples]
    items = benchmark.items(answered, benchmark.verdicts(answered))
    assert len(items) == 2
    assert len({item.cluster for item in items}) == 1
    assert benchmark.num_options(samples[0]) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "other"}, "'problem_type' must be one of"),
        ({"problem": None}, "'problem' must be a str"),
        ({"answer": ""}, "'answer' must not be empty"),
        ({"videos": None}, "'videos' must be a str"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    samples, (bad,) = read(tmp_path, RECORD | change)
    assert (samples, bad.id) == ([], "longvideo-reason-7")
    assert message in bad.reason
