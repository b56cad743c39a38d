import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.evaluation.benchmarks.answers import answer_text, read_choice, read_span

OPTIONS = ["a cat", "a dog", "N/A", "Based on a song"]
TEN = [f"value {i}" for i in range(10)]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>A</think><answer> B </answer>", "B"),
        ("<think>A</think>B", "B"),
        ("<think>A</think><answer>B", "B"),
        ("reasons</think><answer>B</answer>", "B"),
        ("<think><answer>A</answer></think><answer>B</answer>", "B"),
        ("<answer>A</answer> no, <answer>B</answer>", "B"),
        ("B<|im_end|>C", "B"),
        ("<think>it is A, and so", ""),
        ("<think>A</think>", ""),
        ("B", "B"),
        ("", ""),
    ],
)
def test_reasoning_is_no_answer(text, answer):
    assert answer_text(text) == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" (B) ", "B"),
        ("[B]", "B"),
        ("**B**", "B"),
        ("The answer is B", "B"),
        ("The best answer is: (B)", "B"),
        ("The correct option is B because it barks.", "B"),
        ("Final Answer: B", "B"),
        ("Correct Option: B", "B"),
        ("Answer:\nB", "B"),
        ("It barks, so \\boxed{B}.", "B"),
        ("B. a dog", "B"),
        ("(B) a dog, as it barks", "B"),
        ("It barks.\nB) a dog", "B"),
        ("It barks.\nB", "B"),
        ("A dog.", "B"),
        ("n/a", "C"),
        ("The answer is A because it purrs", "A"),
        ("<think>It is A. Or C?</think><answer>B. a dog</answer>", "B"),
        # What is unclear is nothing.
        ("A person walks by", None),
        ("The answer is A person", None),
        ("Based on the video, I think so", None),
        ("The answer is Based on", None),
        ("B or C", None),
        ("option B over option C", None),
        ("A. a cat\nB. a dog", None),
        ("b", None),
        ("E", None),
        ("The answer is E.", None),
        ("\u0412", None),
        ("\uff22", None),
        ("dog", None),
        ("<think>The answer is B", None),
        ("", None),
    ],
)
def test_letters(text, letter):
    assert read_choice(text, OPTIONS) == letter


def test_letters_go_as_far_as_the_options():
    assert read_choice("The answer is J.", TEN) == "J"
    assert read_choice("K", TEN) is None
    assert read_choice("value 9", TEN) == "J"
    # Of two options with one text none is chosen.
    assert read_choice("x", ["x", "X."]) is None
    assert read_choice("A", []) is None


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("From <t>2</t>s to <t>8.5</t>s", (2.0, 8.5)),
        ("From <t>2</t>s to <t>8</t>s, or 3 to 4", (2.0, 8.0)),
        ("12.54 to 17.83", (12.54, 17.83)),
        ("12s to 15s", (12.0, 15.0)),
        ("12.5 seconds - 15 seconds", (12.5, 15.0)),
        ("13.4-28.1", (13.4, 28.1)),
        ("2s–4s.", (2.0, 4.0)),
        ("between 3 and 5", (3.0, 5.0)),
        ("0:05 - 1:10", (5.0, 70.0)),
        ("1:00:05 to 1:00:10.5", (3605.0, 3610.5)),
        ("first 3 to 5, then 7 to 9", (7.0, 9.0)),
        ("[4.0, 10.0]", (4.0, 10.0)),
        ("start: 3.5s, end: 9s", (3.5, 9.0)),
        ("3 to 3", (3.0, 3.0)),
        ("<think>1 to 2</think><answer>3 to 4</answer>", (3.0, 4.0)),
        ("The event happens in 3 - 4", (3.0, 4.0)),
        # Inverted, signed, too many or too few.
        ("9 to 3", None),
        ("From <t>9</t>s to <t>3</t>s", None),
        ("-3 to 5", None),
        ("3, 9, 20", None),
        ("at 3", None),
        ("99999999999 to 3", None),
        ("NaN to 5", None),
        ("\u0663 to \u0665", None),
        ("<think>3 to 5</think><answer>never</answer>", None),
        ("", None),
    ],
)
def test_spans(text, span):
    assert read_span(text) == span


@given(
    st.text(alphabet="ABIabc answeroptionis:.()[]0123456789-to\n<>/think\u0660\u0412*", max_size=80)
)
def test_no_text_raises(text):
    assert read_choice(text, OPTIONS) in (*"ABCD", None)
    span = read_span(text)
    assert span is None or 0 <= span[0] <= span[1]


@pytest.mark.parametrize(
    "part",
    [
        "A",
        "A ",
        "answer ",
        "answer is ",
        "1 ",
        "1         ",
        "1:",
        "1 to ",
        "\n",
        " \n",
        "(A",
        "<think>",
    ],
)
def test_the_cost_is_linear(part):
    begun = time.process_time()
    read_choice(part * (400_000 // len(part)), OPTIONS)
    read_span(part * (400_000 // len(part)))
    assert time.process_time() - begun < 5
