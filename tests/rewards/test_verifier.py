import math

import pytest

from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import (
    Answer,
    AnswerBox,
    AnswerTime,
    GroundedFormat,
    ThinkPoint,
    ThinkSegment,
    ThinkSpace,
    answer_quality,
    rouge_f1,
    rule_score,
)
from lit_vdistill.tasks import Task
from lit_vdistill.types import BoxAt, Evidence

ALL = [
    Answer(),
    AnswerTime(),
    AnswerBox(),
    ThinkSegment(),
    ThinkPoint(),
    ThinkSpace(),
    GroundedFormat(),
]
MAXIMA = {
    Task.MCQ: {"answer", "format"},
    Task.BINARY: {"answer", "format"},
    Task.NUMERICAL: {"answer", "format"},
    Task.OCR: {"answer", "format"},
    Task.TEMPORAL_GROUNDING: {"answer_time", "think_segment", "format"},
    Task.TEMPORAL_MCQ: {"answer", "answer_time", "think_segment", "format"},
    Task.SPATIAL_GROUNDING: {"answer_box", "think_space", "format"},
    Task.SPATIO_TEMPORAL_GROUNDING: {"answer", "format"},
    Task.SPATIO_TEMPORAL_QA: {"answer", "think_point", "think_space", "format"},
    Task.OPEN_ENDED: {"answer", "format"},
}


def score(reward, sample, think="t", answer="x"):
    text = f"<think>{think}</think><answer>{answer}</answer>"
    return reward(parse_response(text), sample)


def mention(name, box, time):
    return f"<obj>{name}</obj><box>{list(box)}</box>at<t>{time}</t>s"


@pytest.mark.parametrize("task", list(Task))
def test_each_task_has_its_terms_and_nothing_else_scores(make_sample, task):
    sample = make_sample(task)
    assert {reward.name for reward in ALL if reward.applies_to(sample)} == MAXIMA[task]
    everything = mention("dog", (0, 0, 100, 100), 3.0) + "<t>3.0</t>s"
    for reward in ALL:
        if not reward.applies_to(sample):
            answer = "From <t>2</t>s to <t>8</t>s <box>[0,0,100,100]</box>"
            assert score(reward, sample, everything, answer) == 0.0


def test_share_of_the_maximum_counts_the_terms_of_the_task_only(make_sample):
    parts = {reward.name: 0.0 for reward in ALL} | {"answer": 1.0, "format": 1.0}
    assert rule_score(ALL, parts, make_sample("mcq")) == 1.0
    assert rule_score(ALL, parts, make_sample("spatio_temporal_qa")) == 0.5


def test_answers(make_sample):
    assert score(Answer(), make_sample("mcq"), answer="B") == 1.0
    assert score(Answer(), make_sample("mcq"), answer="A") == 0.0
    timed = make_sample("temporal_mcq")
    assert score(Answer(), timed, answer="From <t>0</t>s to <t>1</t>s.\nCorrect Option: B") == 1.0
    free = make_sample("open_ended", answer="a red dog runs")
    assert score(Answer(), free, answer="a red dog runs") == pytest.approx(1.0)
    assert 0 < score(Answer(), free, answer="a red cat") < 1


@pytest.mark.parametrize("task", ["mcq", "binary", "numerical", "ocr", "temporal_mcq"])
@pytest.mark.parametrize(
    "text", ["<answer>{}</answer>", "Well, <think>t</think> <answer>{}</answer>"]
)
def test_an_answer_counts_whatever_stands_around_it(make_sample, task, text):
    """The envelope is the format's; q of the same text is 0."""
    truth = {"binary": "yes", "numerical": "3"}.get(task, "B")
    said = f"From <t>2</t>s to <t>8</t>s\nCorrect Option: {truth}" if "temporal" in task else truth
    parsed, sample = parse_response(text.format(said)), make_sample(task, truth)
    assert Answer()(parsed, sample) == 1.0
    assert GroundedFormat()(parsed, sample) == 0.0
    assert answer_quality(parsed, sample) == 0.0


def test_rouge_by_hand():
    """Truth of 4 words, 3 of them said in order: R1 = RL = 6/7, R2 = 4/5."""
    assert rouge_f1("a red dog", "a red dog runs") == pytest.approx((6 / 7 + 4 / 5 + 6 / 7) / 3)


def test_answered_time_and_box(make_sample):
    timed = make_sample("temporal_grounding")
    assert score(AnswerTime(), timed, answer="From <t>4</t>s to <t>10</t>s") == 0.5
    assert score(AnswerTime(), timed, answer="4 to 10") == 0.0
    boxed = make_sample("spatial_grounding")
    assert score(AnswerBox(), boxed, answer="<box>[50,0,150,100]</box>") == pytest.approx(1 / 3)


def test_thinking_segment_counts_times_inside_ends_included(make_sample):
    sample = make_sample("temporal_grounding")
    assert score(ThinkSegment(), sample, "<t>2.0</t>s <t>8</t>s <t>9</t>s") == pytest.approx(2 / 3)
    assert score(ThinkSegment(), sample, "nothing") == 0.0
    assert score(ThinkSegment(), sample, "<t>2.0</t>s <t>1.2.3</t>s") == 0.0


def test_thinking_points_by_hand(make_sample):
    """Key frame at 3 s; |d| = 0 and 2 at σ = 2: (1 + e^-1/2) / 2."""
    sample = make_sample("spatio_temporal_qa")
    expected = (1 + math.exp(-0.5)) / 2
    assert score(ThinkPoint(sigma_s=2.0), sample, "<t>3</t>s <t>5</t>s") == pytest.approx(expected)
    narrow = score(ThinkPoint(sigma_s=1.0), sample, "<t>3</t>s <t>5</t>s")
    assert narrow == pytest.approx((1 + math.exp(-2)) / 2)


def test_a_key_frame_without_boxes_is_a_point_too(make_sample):
    """σ = 1; 3 s has a box, 7 s has none: 6 s is 1 s away from a key frame, and not 3 s."""
    near = make_sample("spatio_temporal_qa").evidence
    bare = Evidence(key_times=(7.0,))
    for evidence in (Evidence(boxes=near.boxes, key_times=(7.0,)), bare):
        sample = make_sample("spatio_temporal_qa", evidence=evidence)
        assert score(ThinkPoint(sigma_s=1.0), sample, "<t>6</t>s") == pytest.approx(math.exp(-0.5))
    assert not ThinkSpace().applies_to(make_sample("spatio_temporal_qa", evidence=bare))


def test_the_releases_pay_only_for_reasoning_that_leads_to_an_answer(make_sample):
    sample = make_sample("spatio_temporal_qa")
    think = mention("dog", (0, 0, 100, 100), 3.0)
    found = [score(ThinkSpace(preset=preset), sample, think, answer="") for preset in PRESETS]
    assert found == [1.0, 0.0, 0.0]


PRESETS = ("visd", "open_o3", "vision_coach")
GATES = [
    ("visd", 4.0, 1.0), ("visd", 4.1, 0.0), ("visd", 2.0, 1.0), ("visd", 1.9, 0.0),
    ("open_o3", 40.0, 1.0), ("open_o3", 2.1, 1.0), ("open_o3", 2.0, 0.0),
    ("vision_coach", 4.0, 1.0), ("vision_coach", 4.1, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "time", "expected"), GATES)
def test_gates_of_the_presets(make_sample, preset, time, expected):
    sample = make_sample("spatio_temporal_qa")
    claim = mention("dog", (0, 0, 100, 100), time)
    assert score(ThinkSpace(preset=preset), sample, claim) == expected


def test_the_gate_is_as_wide_as_told(make_sample):
    """Open-o3-Video's paper has 3 s where the code bases have 1."""
    sample = make_sample("spatio_temporal_qa")
    claim = mention("dog", (0, 0, 100, 100), 5.9)
    assert score(ThinkSpace(tolerance_s=3.0), sample, claim) == 1.0
    assert score(ThinkSpace(), sample, claim) == 0.0


def test_unmatched_mentions_cost_unless_the_preset_lets_them_pass(make_sample):
    sample = make_sample("spatio_temporal_qa")
    think = mention("dog", (0, 0, 100, 100), 3.0) + mention("dog", (0, 0, 100, 100), 9.0)
    assert score(ThinkSpace(preset="visd"), sample, think) == 0.5
    assert score(ThinkSpace(preset="vision_coach"), sample, think) == 1.0
    stranger = mention("dog", (0, 0, 100, 100), 3.0) + mention("table", (0, 0, 100, 100), 3.0)
    assert score(ThinkSpace(preset="visd"), sample, stranger) == 1.0
    assert score(ThinkSpace(preset="vision_coach"), sample, stranger) == 1.0
    named = mention("table", (0, 0, 100, 100), 3.0)
    assert score(ThinkSpace(preset="vision_coach"), sample, named) == 0.0


def test_several_objects_on_a_frame(make_sample):
    """Claim on the dog; the cat stands elsewhere: best object 1, mean of named objects 1 or 0.5."""
    boxes = (
        BoxAt(3.0, "big dog", (0.0, 0.0, 9.0, 9.0)),
        BoxAt(3.0, "small dog", (50.0, 50.0, 60.0, 60.0)),
    )
    sample = make_sample("spatio_temporal_qa", evidence=Evidence(boxes=boxes))
    claim = mention("dog", (0, 0, 9, 9), 3.0)
    assert score(ThinkSpace(preset="visd"), sample, claim) == 1.0
    assert score(ThinkSpace(preset="vision_coach"), sample, claim) == 0.5


def test_eq_13_takes_the_best_box_where_the_code_bases_average_an_objects(make_sample):
    """Two boxes of one name: the claim lies on one of them, 1, and beside the other, 0."""
    boxes = tuple(BoxAt(3.0, "dog", (x, 0.0, x + 9.0, 9.0)) for x in (0.0, 50.0))
    sample = make_sample("spatio_temporal_qa", evidence=Evidence(boxes=boxes))
    claim = mention("dog", (0, 0, 9, 9), 3.0)
    found = {preset: score(ThinkSpace(preset=preset), sample, claim) for preset in PRESETS}
    assert found == {"visd": 1.0, "open_o3": 0.5, "vision_coach": 0.5}


def test_spatial_grounding_takes_the_best_box_of_the_reasoning(make_sample):
    sample = make_sample("spatial_grounding")
    think = "<box>[0,0,1,1]</box> or <box>[0,0,100,50]</box>"
    assert score(ThinkSpace(), sample, think) == pytest.approx(0.5)
    assert score(ThinkSpace(), sample, "<box>[0,0]</box>") == 0.0


FORMATS = [
    ("mcq", "plain", "B", 1.0),
    ("temporal_grounding", "<t>1</t>s and <t>2</t>s", "From", 1.0),
    ("temporal_grounding", "<t>1</t>s", "From", 0.5),
    ("spatial_grounding", "look", "<obj>dog</obj><box>[0,0,1,1]</box>", 1.0),
    ("spatial_grounding", "look", "there", 0.5),
    ("spatio_temporal_qa", "<obj>dog</obj><box>[0,0,1,1]</box>at<t>1</t>s", "a dog", 1.0),
    ("spatio_temporal_qa", "a dog", "a dog", 0.5),
    ("mcq", "<obj>dog", "B", 0.0),
]


@pytest.mark.parametrize(("task", "think", "answer", "expected"), FORMATS)
def test_format(make_sample, task, think, answer, expected):
    assert score(GroundedFormat(), make_sample(task), think, answer) == expected


def test_a_broken_envelope_has_no_format(make_sample):
    assert GroundedFormat()(parse_response("<think>t</think>"), make_sample("mcq")) == 0.0
    twice = "<think>t</think><answer>A</answer><answer>B</answer>"
    assert GroundedFormat()(parse_response(twice), make_sample("mcq")) == 0.0
    assert GroundedFormat()(parse_response(twice, "lenient"), make_sample("mcq")) == 1.0
    around = "So <answer>B</answer><think>a <t>1</t>s</think>"
    assert GroundedFormat()(parse_response(around, "lenient"), make_sample("mcq")) == 1.0
    timed = make_sample("temporal_grounding")
    assert GroundedFormat()(parse_response(around, "lenient"), timed) == 0.5
    open_tag = "<think>a <t>1</think><answer>B</answer>"
    assert GroundedFormat()(parse_response(open_tag, "lenient"), make_sample("mcq")) == 0.0
