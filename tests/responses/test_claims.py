import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.responses.claims import clauses, matched
from lit_vdistill.types import Facts

WORDS = {
    "colour": ("red", "green", "blue"),
    "shape": ("square", "disc"),
    "place": ("left", "top left", "top right", "top"),
    "digit": tuple("0123456789"),
}
RED = {"colour": "red", "shape": "square", "place": "top left"}
BLUE = {"colour": "blue", "shape": "disc", "place": "top right"}
FACTS = Facts((RED, BLUE), WORDS)


def said(text):
    return [[claim.value for claim in clause.claims] for clause in clauses(text, FACTS)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a red square at the top left, a blue disc",
            [["red", "square", "top left"], ["blue", "disc"]],
        ),
        ("Red Square and DISC", [["red", "square"], ["disc"]]),
        ("a red square. It is left", [["red", "square"], ["left"]]),
        ("<think>red</think>\n<answer>disc</answer>", [["red"], ["disc"]]),
        ("<obj>red disc</obj><box>[1,2,3,4]</box>at<t>2.0</t>s", [["red", "disc"]]),
        ("redder, bluered squares", []),
        ("digit 7, 77, 7.5, 7.", [["7"], ["7"]]),
        ("nothing at all", []),
        ("", []),
    ],
)
def test_clauses_hold_whole_words_longest_first(text, expected):
    assert said(text) == expected


def test_claims_say_where_they_stand():
    text = "<answer>a Red square at the top left</answer>"
    (clause,) = clauses(text, FACTS)
    found = [text[claim.start : claim.end] for claim in clause.claims]
    assert found == ["Red", "square", "top left"]


def test_without_words_nothing_is_claimed():
    assert clauses("a red square", Facts()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a blue disc, a red square", [1, 0]),
        ("a disc, a blue square", [1, 0]),  # the second fits both, the first one only
        ("a red square, top left, a blue disc", [0, 0, 1]),
        ("a red square, a blue disc, a red square", [0, 1, 0]),
        ("a red square, a blue disc, a green disc", [0, 1, None]),
        ("green", [None]),
    ],
)
def test_a_clause_is_about_the_thing_it_agrees_with_most(text, expected):
    assert matched(clauses(text, FACTS), FACTS.things) == expected


def test_a_single_thing_is_what_all_is_about():
    assert matched(clauses("green, top right", FACTS), [RED]) == [0, 0]
    assert matched(clauses("green, top right", FACTS), []) == [None, None]


@given(st.text(alphabet="red blue square,.\n<>think/answer box[]and", max_size=200))
def test_any_text_is_taken_apart_without_an_error(text):
    found = clauses(text, FACTS)
    about = matched(found, FACTS.things)
    assert len(about) == len(found)
    places = [(claim.start, claim.end) for clause in found for claim in clause.claims]
    assert places == sorted(places)
    assert all(0 <= start < end <= len(text) for start, end in places)


def test_long_texts_take_time_in_proportion():
    """180 000 characters of unclosed boxes and commas; quadratic search would take minutes."""
    assert len(clauses("<box>[1, " * 20_000, FACTS)) == 20_000
    assert len(clauses("red square " * 20_000, FACTS)) == 1
