import pytest

from lit_vdistill.rewards import FactCounts, StatedFacts, count_facts, reward_breakdown
from lit_vdistill.tasks import Task
from lit_vdistill.types import Facts, VideoSample

WORDS = {
    "colour": ("red", "green", "blue"),
    "shape": ("square", "disc", "cross"),
    "place": ("top left", "top right", "bottom left"),
}
RED = {"colour": "red", "shape": "square", "place": "top left"}
BLUE = {"colour": "blue", "shape": "disc", "place": "top right"}
ASKED = ("colour", "shape", "place")


@pytest.mark.parametrize(
    ("answer", "stated", "wrong", "missing"),
    [
        ("a red square at the top left, a blue disc at the top right", 6, 0, 0),
        ("a blue disc at the top right, a red square at the top left", 6, 0, 0),
        ("A RED square. It is at the top left. Also a blue disc at the top right", 6, 0, 0),
        ("a red square at the top left", 3, 0, 3),
        ("a red square at the top left, a green disc at the top right", 5, 1, 0),
        ("a red square at the top left, a red square at the top left", 3, 0, 3),
        ("a red square, a blue disc", 4, 0, 2),
        ("a red or blue square at the top left", 2, 1, 3),  # to hedge is to be wrong
        ("a red square at the top left, a blue disc at the top right, a green cross", 6, 2, 0),
        ("a green cross at the bottom left", 0, 3, 6),
        ("I cannot tell", 0, 0, 6),
        ("", 0, 0, 6),
    ],
)
def test_facts_are_stated_wrong_or_missing(answer, stated, wrong, missing):
    counts = count_facts(answer, Facts((RED, BLUE), WORDS, ASKED))
    assert counts == FactCounts(stated, wrong, missing)
    assert counts.shares[0] == stated / (stated + wrong + missing)
    assert sum(counts.shares) == pytest.approx(1.0)


def test_kinds_that_are_not_asked_neither_help_nor_hurt():
    known = Facts((RED,), WORDS, ("shape",))
    assert count_facts("a square at the bottom left", known) == FactCounts(1, 0, 0)


def test_nothing_to_state_scores_nothing():
    assert count_facts("a red square", Facts()).shares == (0.0, 0.0, 0.0)


def test_the_reward_needs_a_valid_envelope_and_something_to_state():
    sample = VideoSample(
        "s", Task.OPEN_ENDED, "Describe.", "a red square", media="v.mp4",
        facts=Facts((RED,), WORDS, ("colour", "shape")),
    )  # fmt: skip
    reward = StatedFacts(0.5)
    valid = "<think>green</think><answer>a red disc</answer>"
    assert reward_breakdown([reward], valid, sample) == {"facts": 0.5}
    assert reward_breakdown([reward], "a red square", sample) == {"facts": 0.0}
    bare = VideoSample("s", Task.OPEN_ENDED, "Describe.", "a red square", media="v.mp4")
    assert reward.applies_to(sample)
    assert not reward.applies_to(bare)
    assert reward_breakdown([reward], valid, bare) == {"facts": 0.0}
