from dataclasses import replace

import pytest

from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.responses.prompts import (
    GROUNDED,
    INSTRUCTED,
    SHORT,
    FrameLines,
    Telling,
    privileged_text,
    render_messages,
)
from lit_vdistill.rewards.content import answer_quality
from lit_vdistill.tasks import Task
from lit_vdistill.types import BoxAt, Evidence


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
    told = privileged_text(sample, Telling("answer"), None)
    response = parse_response("<think>t</think>" + told[told.index("<answer>") :])
    if task.is_closed_ended:
        assert answer_quality(response, sample) == 1.0
    else:
        assert response.answer == sample.answer


HEAD = "\nVerified, and hidden from who answers:\nThe right answer is <answer>"
SEEN = Evidence(
    spans=((2.0, 8.0),),
    boxes=(BoxAt(3.0, "dog", (0.4, 1.0, 99.6, 64.25)), BoxAt(3.0, "cat", (1.0, 2.0, 3.0, 4.0))),
    key_times=(3.0, 6.125),
)
"""A segment, two objects at 3 s, and a key frame without a box."""


def told_of(sample, conditioning="feedback", **how):
    return privileged_text(sample, Telling(conditioning, **how), "wrong time")


@pytest.mark.parametrize("evidence", ["times", "boxes"])
def test_evidence_and_feedback_are_told_in_turn(make_sample, evidence):
    sample = make_sample("temporal_mcq")
    assert told_of(sample, "none") == ""
    answer, seen, feedback = (
        told_of(sample, level, evidence=evidence) for level in ("answer", "evidence", "feedback")
    )
    assert answer.startswith(HEAD)
    assert seen.removeprefix(answer).startswith("\nSeen from <t>2.0</t>s to <t>8.0</t>s.")
    assert feedback.removeprefix(seen).endswith(": wrong time")
    assert privileged_text(sample, Telling(evidence=evidence), None) == seen


@pytest.mark.parametrize(
    ("task", "lines"),
    [
        ("temporal_grounding", ["Seen from <t>2.0</t>s to <t>8.0</t>s."]),
        ("temporal_mcq", ["Seen from <t>2.0</t>s to <t>8.0</t>s."]),
        ("spatio_temporal_qa", ["Key moments: <t>3.0</t>s, <t>6.12</t>s."]),
        ("spatial_grounding", []),
        ("mcq", []),
        ("open_ended", []),
    ],
)
def test_by_default_a_teacher_is_told_what_visds_release_tells(make_sample, task, lines):
    """Answer, the segment of temporal tasks, key times of key frames' tasks, correction; in order.

    Where the only box is that of the answer, no other is told, and no name.
    """
    sample = make_sample(task, evidence=SEEN)
    told = told_of(sample)
    answer, _, rest = told.partition("</answer>")
    assert answer.startswith(HEAD)
    *evidence, feedback = rest.splitlines()[1:]
    assert evidence == lines
    assert feedback == "Feedback by which an answer to it is to be corrected: wrong time"
    assert ("<box>" in told, "dog" in told) == ((task == "spatial_grounding"),) * 2


def test_boxes_are_told_as_a_student_writes_them(make_sample):
    """In whole units of what it sees, with name and time; key times without a box behind them."""
    told = told_of(make_sample(evidence=SEEN), "evidence", evidence="boxes")
    assert told.partition("</answer>")[2].splitlines()[1:] == [
        "Seen from <t>2.0</t>s to <t>8.0</t>s.",
        "<obj>dog</obj><box>[0,1,100,64]</box>at<t>3.0</t>s",
        "<obj>cat</obj><box>[1,2,3,4]</box>at<t>3.0</t>s",
        "Key moments: <t>6.12</t>s.",
    ]
    visual = make_sample("spatial_grounding", evidence=SEEN)
    assert "<answer><obj>dog</obj><box>[0,1,100,64]</box></answer>" in told_of(visual)


def test_feedback_is_put_as_a_correction_or_as_being_on_an_earlier_answer(make_sample):
    feedback = told_of(make_sample(), feedback_as="earlier_answer").splitlines()[-1]
    assert feedback == "Feedback on an earlier answer: wrong time"
