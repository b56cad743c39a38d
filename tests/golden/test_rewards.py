"""The verifier as VISD's release computes it, by hand: seven terms, its six tasks, from its rows.

Each expected value is the arithmetic of the release's formula for the response beside it, written
out; nothing of ours computes it. Rows are in the release's format, read by our reader.
"""

from dataclasses import replace
from math import exp

import pytest

from lit_vdistill.data.dataset import in_text_units
from lit_vdistill.readers.stgr import parse_stgr
from lit_vdistill.rewards import (
    Answer,
    AnswerBox,
    AnswerTime,
    GroundedFormat,
    ThinkPoint,
    ThinkSegment,
    ThinkSpace,
    reward_breakdown,
)
from lit_vdistill.types import Medium

SIGMA_S = 2.0
TERMS = (
    Answer(), AnswerTime(), AnswerBox(), ThinkSegment(), ThinkPoint(sigma_s=SIGMA_S),
    ThinkSpace(preset="vision_coach"), GroundedFormat(),
)  # fmt: skip
NAMES = ("answer", "time", "box", "segment", "point", "space", "format")
WIDTH, HEIGHT = 100, 80
"""Of the pictures that the student sees; boxes are in their pixels."""
ROWS = {
    "visual": {
        "id": "g", "task": "visual QA", "source": "gqa", "image_path": "2.jpg",
        "image_size": [500, 400], "question": "Who wears the bag?",
        "answer": "<obj>pedestrian</obj><box>[50, 100, 250, 400]</box>",
    },
    "spatio_temporal": {
        "id": "s", "task": "temporal-spatial free-form QA", "source": "STR_activitynet",
        "video_path": "v.mp4", "question": "What does he lift?", "answer": "a red dog runs",
        "key_frames": [{"idx": 1, "time": 12.5}, {"idx": 2, "time": 20.0}],
        "key_items": {"1": {"man": [[0.2, 0.25, 0.5, 1.0]], "mug": [[0.5, 0.5, 0.6, 0.75]]}},
    },
    "temporal": {
        "id": "t", "task": "temporal QA", "source": "timerft", "video_path": "x.mp4",
        "question": "the cat jumps down", "answer": "[12.0, 19.5]",
    },
    "temporal_mcq": {
        "id": "m", "task": "temporal QA (MCQ)", "source": "TVG_qvhighlight", "video_path": "y.mp4",
        "question": "Why? A. It rains\nB. A dog barks", "answer": "B\n[30.0, 44.0]",
    },
    "mcq": {
        "id": "q", "task": "General video QA MCQ", "source": "videor1", "video_path": "z.mp4",
        "question": "Why? A. It rains\nB. A dog barks", "answer": "B",
    },
    "free_form": {
        "id": "f", "task": "General video QA Free-form", "source": "videor1",
        "video_path": "z.mp4", "question": "What runs?", "answer": "a red dog runs",
    },
}  # fmt: skip
# Key frame 1: the man at [20, 20, 50, 80] and the mug at [50, 40, 60, 60]; key frame 2: nothing.
MAN = "<obj>man</obj><box>[20,20,50,80]</box>at<t>12.5</t>s"
ROUGE_3_OF_4 = (2 * 1 * (3 / 4) / (1 + 3 / 4) * 2 + 2 * 1 * (2 / 3) / (1 + 2 / 3)) / 3
"""Truth "a red dog runs", said "a red dog": R-1 and R-L have precision 1 and recall 3/4, R-2 1 and
2/3; the mean of their F1."""


def near(gap_s):
    """A key frame so far away: exp(-d² / 2σ²), σ = 2."""
    return exp(-(gap_s**2) / 8)


CASES = [
    # Visual QA: the true box is [10, 20, 50, 80] of 100 x 80. Of the answer's box
    # 40 x 30 of 40 x 60 are shared, whatever its name; the reasoning's best box is the truth.
    ("visual", "<box>[10,20,50,80]</box> or <box>[0,0,5,5]</box>",
     "<obj>woman</obj><box>[10,20,50,50]</box>", (0, 0, 1200 / 2400, 0, 0, 1, 1)),
    # Shifted by half its width: 20 x 60 of 40 x 60 + 20 x 60. No box in the reasoning.
    ("visual", "there", "<obj>man</obj><box>[30,20,70,80]</box>",
     (0, 0, 1200 / 3600, 0, 0, 0, 1)),
    ("visual", "there", "there", (0, 0, 0, 0, 0, 0, 0.5)),
    # The man exactly; of "red mug", a name with a true one in it, 10 x 20 of 10 x 40, half a second
    # from the key frame. Times 12.5 and 13.0.
    ("spatio_temporal", MAN + " lifts <obj>red mug</obj><box>[50,40,60,80]</box>at<t>13.0</t>s",
     "a red dog runs", (1, 0, 0, 0, (1 + near(0.5)) / 2, (1 + 200 / 400) / 2, 1)),
    # 19 s is a second from the key frame without boxes and 6.5 s from the other. A claim that is
    # near none, and one of no true name, are free.
    ("spatio_temporal", MAN + "<obj>man</obj><box>[0,0,9,9]</box>at<t>30</t>s"
     "<obj>sky</obj><box>[0,0,9,9]</box>at<t>12.5</t>s <t>19.0</t>s",
     "a red dog", (ROUGE_3_OF_4, 0, 0, 0, (1 + near(10) + 1 + near(1)) / 4, 1 / 1, 1)),
    # A second before the key frame is just near enough; a time alone has no object or box.
    ("spatio_temporal", "<obj>man</obj><box>[20,20,50,80]</box>at<t>11.5</t>s", "x",
     (0, 0, 0, 0, near(1), 1, 1)),
    ("spatio_temporal", "at <t>12.5</t>s", "x", (0, 0, 0, 0, 1, 0, 0.5)),
    # Without an answer block: the times count, places and format do not.
    ("spatio_temporal", MAN, None, (0, 0, 0, 0, 1, 0, 0)),
    # [12, 19.5] against [10, 18]: 6 of 9.5 s. Of 12, 19.5 and 20 two are inside; what is no time,
    # and a time without its s, are ignored.
    ("temporal", "<t>12</t>s <t>19.5</t>s <t>20</t>s <t>noon</t>s <t>13</t>",
     "From <t>10</t>s to <t>18.0</t>s", (0, 6 / 9.5, 0, 2 / 3, 0, 0, 1)),
    # Digits and points that are no time void all; an end before its start is no span.
    ("temporal", "<t>13</t>s <t>1.2.3</t>s", "<t>18</t>s to <t>12</t>s", (0, 0, 0, 0, 0, 0, 1)),
    ("temporal", "<t>13</t>s", "12 to 19", (0, 0, 0, 1, 0, 0, 0.5)),
    # Letter and segment: 10 of 14 s, one of two times inside.
    ("temporal_mcq", "<t>29</t>s <t>31</t>s", "From <t>30</t>s to <t>40</t>s\nCorrect Option: (B)",
     (1, 10 / 14, 0, 1 / 2, 0, 0, 1)),
    ("temporal_mcq", "t", "From <t>0</t>s to <t>1</t>s\nB", (0, 0, 0, 0, 0, 0, 0.5)),
    ("mcq", "t", "[B]", (1, 0, 0, 0, 0, 0, 1)),
    ("mcq", "<t>12</t>s " + MAN, "B. A dog barks", (0, 0, 0, 0, 0, 0, 1)),
    ("mcq", "<obj>dog", "B", (1, 0, 0, 0, 0, 0, 0)),
    ("free_form", "t", "a red dog", (ROUGE_3_OF_4, 0, 0, 0, 0, 0, 1)),
]  # fmt: skip


@pytest.fixture
def sample_of():
    import numpy as np

    frames = np.zeros((1, HEIGHT, WIDTH, 3), dtype=np.uint8)

    def build(row):
        sample = parse_stgr(ROWS[row])
        medium = Medium("image" if row == "visual" else "video", frames, (0.0,))
        return replace(in_text_units(sample, medium, "pixels"), envelope="lenient")

    return build


def terms(text, sample):
    return dict(zip(NAMES, reward_breakdown(TERMS, text, sample).values(), strict=True))


@pytest.mark.parametrize(("row", "think", "answer", "expected"), CASES)
def test_the_terms_are_those_of_the_release(sample_of, row, think, answer, expected):
    block = "" if answer is None else f"<answer>{answer}</answer>"
    found = terms(f"<think>{think}</think>\n{block}", sample_of(row))
    assert found == pytest.approx(dict(zip(NAMES, expected, strict=True)), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "answer", "form"),
    [
        ("Well: <answer>B</answer> as <think>t</think>.", 1, 1),
        ("<think>t</think><answer>B</answer><answer>A</answer>", 1, 1),
        ("<think>t</think><answer>A</answer><answer>B</answer>", 0, 1),
        ("<think>t</think><answer>B</answer></answer>", 1, 0),
        ("<answer>B</answer>", 1, 0),
    ],
)
def test_blocks_may_stand_anywhere_and_the_first_answer_counts(sample_of, text, answer, form):
    """Present and balanced is all that the release's format asks of a question without places."""
    found = terms(text, sample_of("mcq"))
    assert (found["answer"], found["format"]) == (answer, form)


def test_every_task_and_term_has_a_case_that_is_neither_0_nor_all():
    assert {row for row, *_ in CASES} == set(ROWS)
    for place, name in enumerate(NAMES):
        values = {case[3][place] for case in CASES}
        assert len(values) > 2 or name in ("segment", "space", "box"), name
        assert any(0 < value < 1 for value in values), name
