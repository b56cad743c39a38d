import sys

import pytest

from lit_vdistill.responses.grammar import (
    all_boxes,
    correct_option,
    first_box,
    grounded_mentions,
    mentioned_times,
    number,
    option_letter,
    parse_response,
    time_span,
    yes_or_no,
)

GOOD = "<think>a\nb</think>\n<answer> B </answer>"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD, None),
        ("  " + GOOD + "\n", None),
        (GOOD + "<|im_end|>", None),
        (GOOD + "<|im_end|> and more", None),
        ("<think></think><answer></answer>", None),
        ("<answer>B</answer>", "no_think"),
        ("<think>a</think>", "no_answer"),
        ("<think>a</think><answer>B", "no_answer"),
        ("<think>a<answer>B</answer>", "no_think"),
        ("", "no_think"),
        ("Sure! " + GOOD, "text_outside"),
        (GOOD + " Done.", "text_outside"),
        ("<think>a</think> so <answer>B</answer>", "text_outside"),
        ("<answer>B</answer><think>a</think>", "text_outside"),
        ("<think>a</think>" + GOOD, "repeated_tags"),
        (GOOD + "<answer>C</answer>", "repeated_tags"),
        ("<think>a</think><answer>A<answer>B</answer>", "repeated_tags"),
        (GOOD + "</think>", "repeated_tags"),
    ],
)
def test_envelope(text, problem):
    assert parse_response(text).problem == problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD, None),
        ("Sure! " + GOOD + " Done.", None),
        ("<answer>B</answer> as <think>a</think>", None),
        ("<think>a</think>" + GOOD + "<answer>C</answer>", None),
        ("<answer>B</answer>", "no_think"),
        ("<think>a</think><answer>B", "no_answer"),
        ("", "no_think"),
        (GOOD + "<think>", "unbalanced_tags"),
        (GOOD + "</answer>", "unbalanced_tags"),
        (GOOD + "<answer></think>", "unbalanced_tags"),
    ],
)
def test_a_lenient_envelope_wants_both_blocks_and_balanced_tags(text, problem):
    assert parse_response(text, "lenient").problem == problem


def test_of_several_answers_the_first_counts_where_the_envelope_is_lenient():
    text = "<think>a</think><answer> A </answer><think>b</think><answer>B</answer>"
    found = {envelope: parse_response(text, envelope) for envelope in ("strict", "lenient")}
    assert {name: parsed.answer for name, parsed in found.items()} == {
        "strict": "B",
        "lenient": "A",
    }
    assert {parsed.think for parsed in found.values()} == {"a"}


def test_contents_are_read_even_from_an_invalid_envelope():
    parsed = parse_response("<think>x</think><answer>A</answer><answer>\nB\n</answer>")
    assert (parsed.think, parsed.answer) == ("x", "B")
    assert parse_response("nothing").answer == ""


def test_answer_behind_the_end_of_sequence_does_not_count():
    assert parse_response("<think>a</think><|im_end|><answer>B</answer>").answer == ""


@pytest.mark.parametrize("text", ["B", "B.", "(B)", "[B]", " B\n"])
def test_option_letter_reads_the_four_forms(text):
    assert option_letter(text) == "B"


@pytest.mark.parametrize("text", ["b", "B)", "B. cat", "(B", "BC", "", "(B).", "Option B"])
def test_option_letter_refuses_others(text):
    assert option_letter(text) is None


def test_correct_option_needs_its_marker():
    assert correct_option("From <t>1</t>s to <t>2</t>s.\nCorrect Option: C") == "C"
    assert correct_option("Correct Option: [C]") == "C"
    assert correct_option("C") is None
    assert correct_option("Correct Option: cat") is None


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("From <t>4</t>s to <t>10</t>s", (4.0, 10.0)),
        ("<t>4.5</t> to <t>10.25</t>", (4.5, 10.25)),
        ("<t>4.</t>s to <t>10</t>s", (4.0, 10.0)),
        ("<t>9</t>s to <t>3</t>s", (9.0, 3.0)),
        ("<t>1</t>s to <t>2</t>s, or <t>3</t>s to <t>4</t>s", (1.0, 2.0)),
        ("4 to 10", None),
        ("<t>-4</t>s to <t>10</t>s", None),
        ("<t> 4</t>s to <t>10</t>s", None),
        ("<t>1.2.3</t>s to <t>10</t>s", None),
        ("<t>4</t>s-<t>10</t>s", None),
    ],
)
def test_time_span(text, span):
    assert time_span(text) == span


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("<box>[1,2,3,4]</box>", (1, 2, 3, 4)),
        ("<obj>a</obj><box>[0.5, 1, 2, 3]</box>", (0.5, 1, 2, 3)),
        ("<box>[1,2,3,4]</box><box>[5,6,7,8]</box>", (1, 2, 3, 4)),
        ("<box>[[1,2,3,4]]</box>", None),
        ("<box>[1,2,3]</box>", None),
        ("<box>[1,2,3,NaN]</box>", None),
        ("<box>[1,2,3,true]</box>", None),
        ("<box>[1,2,3,'4']</box>", None),
        ("<box>1,2,3,4</box>", None),
        ("<box>[1,2,3,4]", None),
        ("[1,2,3,4]", None),
    ],
)
def test_first_box(text, box):
    assert first_box(text) == box


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), (" -2.50 ", -2.5), (".5", 0.5), ("3 cats", None), ("1,000", None), ("nan", None)],
)
def test_number(text, value):
    assert number(text) == value


def test_yes_or_no():
    assert [yes_or_no(text) for text in ("Yes.", "NO", "maybe", "")] == ["yes", "no", None, None]


def test_times_that_are_none_do_not_count_but_broken_numbers_void_all():
    assert mentioned_times("at <t>1.0</t>s and <t>2</t>s") == (1.0, 2.0)
    for other in ("one", "-3", "", " 4", "0:12", "1e9"):
        assert mentioned_times(f"at <t>1.0</t>s and <t>{other}</t>s") == (1.0,)
    assert mentioned_times("at <t>1.0</t>s and <t>1.2.3</t>s") == ()
    assert mentioned_times("no times, <t>4</t> without s") == ()


@pytest.mark.parametrize(
    "malformed",
    [
        "<obj>a</obj> <box>[1,2,3,4]</box>at<t>1</t>s",
        "<obj>a</obj><box>[1,2,3,4]</box> at<t>1</t>s",
        "<obj>a</obj><box>[1,2,3,4]</box>at<t>1</t>",
        "<obj>a</obj><box>[1,2,3,4]</box>at<t>one</t>s",
        "<obj>a</obj><box>[[1,2,3,4]]</box>at<t>1</t>s",
    ],
)
def test_malformed_mentions_are_passed_over(malformed):
    good = "<obj>red cup</obj><box>[1,2,3,4]</box><box>[5,6,7,8]</box>at<t>1.5</t>s"
    (mention,) = grounded_mentions(f"{good} then {malformed}")
    assert mention.name == "red cup"
    assert mention.boxes == ((1, 2, 3, 4), (5, 6, 7, 8))
    assert mention.time_s == 1.5


def test_a_mention_begins_at_the_last_object_before_its_boxes():
    text = "<obj>a dog</obj> and <obj>a cat</obj><box>[1,2,3,4]</box>at<t>1</t>s"
    assert [mention.name for mention in grounded_mentions(text)] == ["a cat"]
    assert grounded_mentions("<obj>a</obj>at<t>1</t>s<box>[1,2,3,4]</box>at<t>1</t>s") == ()


@pytest.mark.parametrize("digits", ["9" * 309, "9" * 155, "1" * 5000, "\u0663", "\uff13", "1e9"])
def test_numbers_that_no_video_has_are_none(digits):
    assert number(digits) is None
    assert mentioned_times(f"<t>{digits}</t>s") == ()
    assert time_span(f"<t>{digits}</t>s to <t>1</t>s") is None
    assert first_box(f"<box>[{digits},1,2,3]</box>") is None


def test_brackets_within_brackets_are_no_box():
    assert first_box("<box>" + "[" * 5000 + "1" + "]" * 5000 + "</box>") is None


def everything(text):
    parse_response(text)
    time_span(text)
    mentioned_times(text)
    grounded_mentions(text)
    all_boxes(text)
    number(text)
    option_letter(text)


def steps(text):
    """Lines of Python that run while a text is read."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        everything(text)
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize(
    ("head", "repeated"),
    [
        ("", "<think>"),
        ("", "<answer></answer>"),
        ("", "<box>"),
        ("", "<t>1"),
        ("", "<obj>c</obj>"),
        ("<obj>c</obj>", "<box>[1,2,3,4]</box>"),
        ("<obj>c</obj>", "<box>[1,2,3,4]</box>at<t>1</t>"),
        ("", "<obj>c</obj><box>[1,2,3,4]</box>at<t>1</t>s"),
        ("<t>1</t>", " "),
        ("<box>", "["),
        ("", "1"),
        ("", "<t>1</t>s to "),
    ],
)
def test_the_cost_of_a_text_is_linear(head, repeated):
    costs = [steps(head + repeated * count) for count in (100, 200, 400)]
    assert costs[2] - costs[1] <= 2.1 * (costs[1] - costs[0]) + 10
