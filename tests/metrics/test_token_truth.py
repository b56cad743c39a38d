"""Golden cases by hand, a right and a wrong one a task."""

import pytest

from lit_vdistill.metrics.token_truth import Mark, Tolerance, marks, token_marks
from lit_vdistill.tasks import Task
from lit_vdistill.types import BoxAt, Evidence, Facts, VideoSample

WORDS = {
    "colour": ("red", "green", "blue"),
    "shape": ("square", "disc", "cross"),
    "place": ("top left", "top right", "bottom left"),
}
RED = {"colour": "red", "shape": "square", "place": "top left"}
BLUE = {"colour": "blue", "shape": "disc", "place": "top right"}
DIGIT = Facts(({"digit": "7", "place": "top right"},), {"digit": tuple("0123456789")} | WORDS)
SEEN = Evidence(((2.0, 5.0),), (BoxAt(3.0, "red square", (8.0, 16.0, 24.0, 32.0)),))
QUESTIONS = {
    Task.MCQ: ("Which colour is at the top left?", "B", ("blue", "red", "green")),
    Task.BINARY: ("Is there a red shape?", "yes", ()),
    Task.NUMERICAL: ("How many shapes appear?", "2", ()),
    Task.OCR: ("Which digit is shown?", "7", ()),
    Task.TEMPORAL_GROUNDING: ("When is the red shape visible?", "[2.0, 5.0]", ()),
    Task.TEMPORAL_MCQ: ("When and where is the red shape?", "A", ("top left", "top right")),
    Task.SPATIAL_GROUNDING: ("Locate the red shape at 3.0 s.", "red square", ()),
    Task.SPATIO_TEMPORAL_QA: ("What is the red shape?", "a red square at the top left", ()),
    Task.OPEN_ENDED: ("Describe the video.", "a red square, a blue disc", ()),
}


def sample_of(task, **changes):
    question, answer, options = QUESTIONS[task]
    things = (RED, BLUE) if task in (Task.NUMERICAL, Task.OPEN_ENDED) else (RED,)
    facts = DIGIT if task is Task.OCR else Facts(things, WORDS)
    fields = {"answer": answer, "options": options, "evidence": SEEN, "facts": facts} | changes
    return VideoSample("s", task, question, media="v.mp4", **fields)


def verdicts(sample, think, answer):
    """`word` where it is right, `!word` where it is wrong, `?word` where it cannot be told."""
    text = f"<think>{think}</think>\n<answer>{answer}</answer>"
    sign = {"right": "", "wrong": "!", "unclear": "?"}
    return [sign[mark.verdict] + text[mark.start : mark.end] for mark in marks(text, sample)]


@pytest.mark.parametrize(
    ("task", "think", "answer", "expected"),
    [
        ("mcq", "red square top left", "B", "red square|top left|B"),
        ("mcq", "blue square top left", "A", "!blue square|top left|!A"),
        ("mcq", "red", "(B)", "red|B"),
        ("mcq", "red", "A or B", "red|?A|?B"),
        ("binary", "red square top left", "yes", "red square|top left|yes"),
        ("binary", "green disc top left", "No.", "!green !disc|top left|!No"),
        ("binary", "red", "yes and no", "red|?yes|?no"),
        ("numerical", "red square, blue disc", "2", "red square|blue disc|2"),
        ("numerical", "red square, green disc", "3", "red square|!green disc|!3"),
        ("numerical", "red square, green cross", "two", "red square|!green !cross"),
        # Which of the two it was meant to be cannot be told: its colour or its shape is wrong.
        ("numerical", "red disc", "1", "?red ?disc|!1"),
        ("numerical", "red square", "2 or 3", "red square|?2|?3"),
        ("ocr", "7 top right", "7", "7|top right|7"),
        ("ocr", "digit 4 top left", "4", "!4|!top left|!4"),
        (
            "temporal_grounding",
            "red square top left <t>2.0</t>s to <t>5.0</t>s",
            "From <t>2.0</t>s to <t>5.0</t>s",
            "red square|top left|2.0|5.0|2.0|5.0",
        ),
        (
            "temporal_grounding",
            "blue <t>2</t>s",
            "From <t>2.5</t> to <t>7.0</t>",
            "!blue|?2|?2.5|!7.0",
        ),
        (
            "temporal_mcq",
            "red square top left <t>2.0</t>s to <t>5.0</t>s",
            "From <t>2.0</t>s to <t>5.0</t>s.\nCorrect Option: A",
            "red square|top left|2.0|5.0|2.0|5.0|A",
        ),
        (
            "temporal_mcq",
            "red square top right",
            "From <t>0.0</t>s to <t>5.1</t>s.\nCorrect Option: B",
            "red square|!top right|!0.0|5.1|!B",
        ),
        (
            "spatial_grounding",
            "<obj>red square</obj><box>[8,16,24,32]</box>at<t>3.0</t>s",
            "<obj>red square</obj><box>[8,16,24,32]</box>",
            "red square|8 16 24 32|3.0|red square|8 16 24 32",
        ),
        (
            "spatial_grounding",
            "",
            "<obj>green square</obj><box>[10, 19, 40, 48.0]</box>",
            "!green square|10 ?19 !40 !48.0",
        ),
        ("spatial_grounding", "", "<box>[8,16,24]</box>", "?8 ?16 ?24"),
        (
            "spatio_temporal_qa",
            "<obj>red disc</obj><box>[8,0,24,16]</box>at<t>6.0</t>s",
            "a red disc at the bottom left",
            "red !disc|8 !0 24 !16|!6.0|red !disc|!bottom left",
        ),
        (
            "open_ended",
            "red square, blue disc",
            "a red square at the top left, a blue cross at the top right",
            "red square|blue disc|red square|top left|blue !cross|top right",
        ),
        ("open_ended", "", "a green cross at the bottom left", "!green !cross|!bottom left"),
    ],
)
def test_each_part_is_right_wrong_or_unclear(task, think, answer, expected):
    found = verdicts(sample_of(Task(task)), think, answer)
    separate = [part for chunk in expected.split("|") for part in _parts(chunk)]
    assert found == separate


def _parts(chunk):
    """Words of a chunk, a place of two words as one."""
    bare = chunk.lstrip("!?")
    return [chunk] if bare in WORDS["place"] else chunk.split()


def test_what_the_question_names_is_unclear_where_it_is_not_there():
    """Asked for a red shape that is not there, an answer that says yes tells of a red square."""
    sample = sample_of(Task.BINARY, answer="no", facts=Facts((), WORDS))
    found = verdicts(sample, "red square top left", "yes")
    assert found == ["?red", "!square", "!top left", "!yes"]
    assert verdicts(sample, "not there", "no") == ["no"]


def test_nothing_can_be_told_of_an_invalid_envelope():
    text = "<think>blue</think><answer>A</answer> and so on"
    assert {mark.verdict for mark in marks(text, sample_of(Task.MCQ))} == {"unclear"}
    assert [mark.kind for mark in marks(text, sample_of(Task.MCQ))] == ["colour", "letter"]


def test_without_evidence_times_and_boxes_are_unclear():
    sample = sample_of(Task.SPATIO_TEMPORAL_QA, evidence=Evidence())
    found = verdicts(sample, "<box>[1,2,3,4]</box>at<t>3.0</t>s", "a red square")
    assert found == ["?1", "?2", "?3", "?4", "?3.0", "red", "square"]


def test_how_near_is_right_can_be_set():
    text = "<think></think><answer>From <t>2.5</t>s to <t>5.0</t>s</answer>"
    strict = Tolerance(time_right_s=0.0, time_wrong_s=0.5)
    found = marks(text, sample_of(Task.TEMPORAL_GROUNDING), strict)
    assert [mark.verdict for mark in found] == ["wrong", "right"]


@pytest.mark.parametrize("said", ["<t>1e9</t>s to <t>nan</t>s", "<t>" * 4000, "<box>[" * 4000])
def test_odd_numbers_and_long_repetitions_do_no_harm(said):
    found = marks(f"<think>{said}</think><answer>x</answer>", sample_of(Task.TEMPORAL_GROUNDING))
    assert all(mark.verdict == "unclear" for mark in found)


def test_a_token_has_the_mark_it_touches():
    a, b = Mark(4, 7, "colour", "right"), Mark(8, 14, "shape", "wrong")
    tokens = [(0, 3), (3, 7), (7, 14), (5, 9), (14, 15)]
    found = token_marks([a, b], tokens)
    assert found[:3] == [None, a, b]
    assert found[3].verdict == "unclear"
    assert found[4] is None


def test_a_text_of_several_digits_is_read_digit_by_digit():
    things = tuple({"digit": digit, "place": "top right"} for digit in "472")
    facts = Facts(things, DIGIT.words)
    sample = sample_of(Task.OCR, answer="4 7 2", facts=facts)
    assert verdicts(sample, "4, 7, 2 top right", "4 7 2") == [
        *("4", "7", "2", "top right"),
        *("4", "7", "2"),
    ]
    assert verdicts(sample, "4, 9, 2 top right", "4 9 2") == [
        *("4", "!9", "2", "top right"),
        *("4", "!9", "2"),
    ]
    assert verdicts(sample, "4, 7", "4 7") == ["4", "7", "?4", "?7"]


def test_an_empty_time_marks_nothing():
    """It has no character that could be right or wrong; its neighbours keep their marks."""
    sample = sample_of(Task.TEMPORAL_GROUNDING)
    text = "<think>x</think><answer>From <t></t>s to <t>5.0</t>s</answer>"
    found = marks(text, sample)
    assert [text[mark.start : mark.end] for mark in found] == ["5.0"]
