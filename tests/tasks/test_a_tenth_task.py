"""A task is one class: with nothing else written, all that knows tasks knows this one."""

import io
import re
from itertools import combinations

import pytest
from rich.console import Console

from lit_vdistill.data.mixture import Mixture
from lit_vdistill.metrics.token_truth import marks
from lit_vdistill.pool.quality import best_response, score_responses
from lit_vdistill.readers.records import parse_record, read_records, write_records
from lit_vdistill.readers.templates import load_template
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.responses.prompts import (
    GROUNDED,
    SHORT,
    Telling,
    privileged_text,
    render_messages,
)
from lit_vdistill.rewards import (
    Answer,
    Content,
    GroundedFormat,
    OuterFormat,
    TaskFormat,
    answer_quality,
    reward_breakdown,
)
from lit_vdistill.stages.validation import Validation
from lit_vdistill.tasks import Task
from lit_vdistill.tasks.marks import by_word
from lit_vdistill.tracking import score_table
from lit_vdistill.types import Rollout, TeacherResponse

RECORD = {
    "id": "v1-order",
    "task": "ordering",
    "media": "v1.mp4",
    "question": "In which order does it happen?",
    "options": ["the door opens", "a dog runs", "rain falls"],
    "answer": "CAB",
}
RIGHT, HALF, WRONG = (
    f"<think>t</think><answer>{answer}</answer>" for answer in ("C, A, B", "C, B, A", "first C")
)


@pytest.fixture
def ordering(own_tasks):
    class Ordering(Task):
        name = "ordering"
        instruction = "Answer with the letters in the order of their events, as in B, A, C."

        def check(self, sample):
            known = "".join(chr(ord("A") + i) for i in range(len(sample.options)))
            if "".join(sorted(sample.answer)) != known:
                raise ValueError(f"'answer' must order the letters {known}, got '{sample.answer}'")

        def true_answer(self, sample):
            return ", ".join(sample.answer)

        def has_syntax(self, answer):
            return re.fullmatch("[A-Z](, [A-Z])*", answer) is not None

        def quality(self, answer, sample, epsilon):
            pairs = list(combinations(sample.answer, 2))
            right = [a in answer and answer.find(a) < answer.find(b) for a, b in pairs]
            return sum(right) / len(pairs)

        def answer_marks(self, text, place, sample, epsilon):
            return by_word(text, place, self.true_answer(sample))

    return Task.ORDERING


@pytest.fixture
def sample(ordering):
    return parse_record(RECORD)


def test_it_is_read_and_written(ordering, sample, tmp_path):
    assert sample.task is ordering
    write_records(tmp_path / "r.jsonl", [sample])
    assert read_records(tmp_path / "r.jsonl") == ([sample], [])
    with pytest.raises(ValueError, match="must order the letters ABC, got 'CA'"):
        parse_record(RECORD | {"answer": "CA"})


def test_it_is_asked_by_every_kind_of_template(ordering, sample, tmp_path):
    *_, user = render_messages(sample, GROUNDED)
    assert user["content"][1]["text"].endswith(f"C. rain falls\n{ordering.instruction}")
    (bare,) = render_messages(sample, SHORT)
    assert bare["content"][1]["text"].endswith("C. rain falls")
    (tmp_path / "t.yaml").write_text("instructions: {ordering: Letters only.}\n")
    (turn,) = render_messages(sample, load_template(str(tmp_path / "t.yaml")))
    assert turn["content"][1]["text"].endswith("Letters only.")
    assert "<answer>C, A, B</answer>" in privileged_text(sample, Telling("answer"), None)
    assert Mixture({"ordering": 2.0}, {}, 1).weight(["ordering"], 0) == 2.0


def test_it_is_paid(sample):
    rewards = [OuterFormat(), TaskFormat(), Content(), Answer(), GroundedFormat()]
    paid = [list(reward_breakdown(rewards, text, sample).values()) for text in (RIGHT, HALF, WRONG)]
    assert paid == [
        [1.0, 1.0, 1.0, 1.0, 1.0],
        [1.0, 1.0, pytest.approx(2 / 3), pytest.approx(2 / 3), 1.0],
        [1.0, 0.0, 0.0, 0.0, 1.0],
    ]
    pool = [
        TeacherResponse(sample.id, k, text, "t", 1.0, 1.0) for k, text in enumerate((WRONG, RIGHT))
    ]
    scored = score_responses(sample, pool)
    assert [response.quality for response in scored] == [0.0, 1.0]
    assert best_response(sample, scored, seed=0) is scored[1]


def test_its_answers_are_judged_word_by_word(sample):
    assert [mark.verdict for mark in marks(HALF, sample)] == ["right", "wrong", "wrong"]


def test_it_is_reported(sample):
    def rollout(text):
        return Rollout(sample.id, 0, (1,), (0.0,), text, False, 1.0)

    validation = Validation([Content()], num_samples=1)
    validation.update(sample, rollout(RIGHT), [rollout(HALF)])
    report, counts = validation.compute(), validation.num_samples()
    assert (report["score/ordering"], counts["score/ordering"]) == (1.0, 1)
    assert "tIoU" not in report
    text = io.StringIO()
    Console(file=text, width=100).print(score_table.by_task("held out", [report], counts))
    (row,) = [line for line in text.getvalue().splitlines() if "ordering" in line]
    assert re.findall(r"[\d.]+", row) == ["1", "1.000", "0.667", "0.667"]


@pytest.mark.parametrize("worth", [1.5, -0.1, float("nan")])
def test_a_quality_that_is_none_is_refused(ordering, sample, monkeypatch, worth):
    monkeypatch.setattr(type(ordering), "quality", lambda *_: worth)
    with pytest.raises(ValueError, match="sample v1-order: task 'ordering' must give a quality in"):
        answer_quality(parse_response(RIGHT), sample)
