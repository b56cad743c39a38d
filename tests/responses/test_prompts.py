from dataclasses import replace

import pytest

from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.responses.prompts import (
    GROUNDED,
    INSTRUCTED,
    SHORT,
    FrameLines,
    privileged_text,
    render_messages,
)
from lit_vdistill.rewards.content import answer_quality
from lit_vdistill.tasks import Task


def test_medium_stands_before_question_and_options_get_letters(make_sample):
    (turn,) = render_messages(make_sample(), SHORT)
    assert [part["type"] for part in turn["content"]] == ["video", "text"]
    assert turn["content"][1]["text"] == "What?\nA. cat\nB. dog\nC. cow"


def test_text_sample_has_no_medium(make_sample):
    sample = make_sample(media=None, media_type="text")
    (turn,) = render_messages(sample, SHORT)
    assert [part["type"] for part in turn["content"]] == ["text"]


def test_grounded_template_covers_every_task(make_sample):
    assert set(GROUNDED.instructions) == set(Task)
    system, user = render_messages(make_sample(), GROUNDED)
    assert "<think></think>" in system["content"]
    assert user["content"][1]["text"].endswith("Answer with the letter of the option only.")


@pytest.mark.parametrize("task", list(Task))
def test_instructed_template_has_a_system_text_a_task_and_nothing_behind_the_question(
    make_sample, task
):
    sample = make_sample(task, "B")
    system, user = render_messages(sample, INSTRUCTED)
    assert system["content"].endswith(task.instruction)
    assert "<think></think>" in system["content"]
    assert user["content"][-1]["text"] in ("What?", "What?\nA. cat\nB. dog\nC. cow")
    written = replace(sample, as_written="What?\n(A) cat (B) dog (C) cow")
    *_, user = render_messages(written, INSTRUCTED)
    assert user["content"][-1]["text"] == "What?\n(A) cat (B) dog (C) cow"
    *_, user = render_messages(written, GROUNDED)
    assert user["content"][-1]["text"].startswith("What?")
    assert "(A)" not in user["content"][-1]["text"]


def test_frames_as_images_have_a_line_each_and_the_video_one(make_sample):
    (turn,) = render_messages(make_sample(), SHORT, FrameLines(("0.0s", "3s"), 7.9))
    said = "".join(part.get("text", "<image>") for part in turn["content"])
    assert said == (
        "Frame 1, 0.0s: <image>\nFrame 2, 3s: <image>\nThe video lasts 7s.\n"
        "What?\nA. cat\nB. dog\nC. cow"
    )


@pytest.mark.parametrize("task", list(Task))
def test_what_a_teacher_is_told_is_the_right_answer_in_the_syntax_of_the_task(make_sample, task):
    """Said as it stands it would earn full marks."""
    answers = {Task.BINARY: "yes", Task.NUMERICAL: "2"}
    sample = make_sample(task, answers.get(task, "B"))
    told = privileged_text(sample, "answer", None)
    response = parse_response("<think>t</think>" + told.removeprefix("\nThe right answer is "))
    if task.is_closed_ended:
        assert answer_quality(response, sample) == 1.0
    else:
        assert response.answer == sample.answer


def test_evidence_and_feedback_are_told_in_turn(make_sample):
    sample = make_sample()
    assert privileged_text(sample, "none", "wrong time") == ""
    answer, evidence, feedback = (
        privileged_text(sample, told, "wrong time") for told in ("answer", "evidence", "feedback")
    )
    assert answer == "\nThe right answer is <answer>B</answer>"
    span = "\nSeen from <t>2.0</t>s to <t>8.0</t>s."
    assert evidence == f"{answer}{span}\n<obj>dog</obj><box>[0,0,100,100]</box>at<t>3.0</t>s"
    assert feedback == f"{evidence}\nFeedback on an earlier answer: wrong time"
    assert privileged_text(sample, "feedback", None) == evidence
