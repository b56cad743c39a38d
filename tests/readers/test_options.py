import contextlib
import time

import pytest

from lit_vdistill.readers.options import bare_options, split_options


@pytest.mark.parametrize(
    ("options", "bare"),
    [
        (["A. cat", "B. dog"], ("cat", "dog")),
        (["A.cat", "B.dog"], ("cat", "dog")),
        (["A: cat", "B: dog"], ("cat", "dog")),
        (["(A) cat", "(B) dog"], ("cat", "dog")),
        (["U.S. Navy", "I. Newton"], ("U.S. Navy", "I. Newton")),
        (["A. cat", "dog"], ("A. cat", "dog")),
        (["B. cat", "A. dog"], ("B. cat", "A. dog")),
        ([], ()),
    ],
)
def test_letters_come_off_where_all_have_theirs(options, bare):
    assert bare_options(options) == bare


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Why? A. cat B. dog", "Why?", ("cat", "dog")),
        ("Why?\nA.cat\nB.a big dog\nC.cow", "Why?", ("cat", "a big dog", "cow")),
        ("Why? A: cat B: dog", "Why?", ("cat", "dog")),
        ("Why? (A) cat (B) dog", "Why?", ("cat", "dog")),
        ("What does Dr. A. Smith do? A. sit B. run", "What does Dr. A. Smith do?", ("sit", "run")),
        (
            "Which? A. A.I. labs B. C. elegans C. none",
            "Which?",
            ("A.I. labs", "C. elegans", "none"),
        ),
        ("A. cat B. dog", "", ("cat", "dog")),
    ],
)
def test_options_are_found_in_a_question(text, question, options):
    assert split_options(text) == (question, options)


@pytest.mark.parametrize(
    "text", ["", "Why?", "Why? A. cat", "B. cat C. dog", "A. B. C.", "Why? A. B."]
)
def test_a_question_without_options_is_named(text):
    with pytest.raises(ValueError, match="'question' "):
        split_options(text)


@pytest.mark.parametrize("part", ["A. ", "A. x B. ", " ", "(", "A. x ", "A.A.A. ", "B. A. "])
def test_the_cost_is_linear(part):
    """A text of 400 kB; a quadratic parser would take minutes."""
    begun = time.process_time()
    with contextlib.suppress(ValueError):
        split_options(part * (400_000 // len(part)))
    assert time.process_time() - begun < 5
