import json
from statistics import mean

import pytest

from lit_vdistill.evaluation.benchmark import Answered
from lit_vdistill.evaluation.benchmarks.vstar import Rater, VStar
from lit_vdistill.evaluation.benchmarks.vstar_record import KINDS, questions_of
from lit_vdistill.judge.served_judge import OpenAIRater
from lit_vdistill.tasks import Task
from tests.metrics.test_vstar import TWO_ITEMS

RECORD = {
    "vid": "5587257558", "domain": "Animals", "fps": 29.97, "width": 1280, "height": 720,
    "frame_count": 900, "question": "What does it do?", "chain": "<think>…<think>",
    "object": "dog", "answer": "running", "temporal_question": "When does it run?",
    "timestamps": [4.0, 9.0], "spatial_question": "Where is it between 4 and 9?",
    "spatial_question_2": "Where is it?",
    "bboxes": [
        {"timestamp": 4, "frame_index": 120, "xmin": 100, "ymin": 50, "xmax": 300, "ymax": 400}
    ],
}  # fmt: skip


def box(second, corners):
    return dict(zip(("timestamp", "xmin", "ymin", "xmax", "ymax"), (second, *corners), strict=True))


def record(span, boxes, frames, domain="Animals"):
    return RECORD | {
        "fps": 1.0, "width": 1000, "height": 1000, "frame_count": frames, "domain": domain,
        "timestamps": list(span), "bboxes": [box(*one) for one in boxes],
    }  # fmt: skip


WHOLE = (0, 0, 100, 100)
A = record((2, 8), [(2, WHOLE), (3, WHOLE)], 30)
B = record((5, 10), [(7, (10, 10, 20, 20))], 60, "Sports")
C = record((0, 1), [(0, WHOLE)], 200)
ANSWERS = {
    "A": {
        "vqa": "running",
        "temporal": "From <t>4</t>s to <t>10</t>s",
        "spatial": '{"2": [50, 0, 150, 100]}',
        "temporal_2": "2 to 5",
        "spatial_2": '{"3": [[0, 0, 100, 50], [0, 0, 10, 10]]}',
    },
    "B": {
        "vqa": "sleeping",
        "temporal": "I cannot say.",
        "spatial": "null",
        "temporal_2": "[0, 10]",
        "spatial_2": "<obj>dog</obj><box>[10,10,20,20]</box>at<t>7</t>s",
    },
    "C": {
        "vqa": "",
        "temporal": "0 to 1",
        "spatial": '{"0": [0, 0, 100, 100]}',
        "temporal_2": "0 to 1",
        "spatial_2": '{"0": [0, 0, 100, 100]}',
    },
}


def test_a_box_beyond_the_frame_stays_as_annotated():
    made = questions_of(record((0, 9), [(3, (-50, 0, 1100, 500))], 30), "x")
    assert [found.box for found in made[2].evidence.boxes] == [(-0.05, 0.0, 1.1, 0.5)]


class Scripted:
    """Rates the answers of the specification's items."""

    def __init__(self):
        self.asked = []

    def rate(self, asked):
        self.asked += asked
        return [{"running": 3, "sleeping": 1}.get(candidate) for _, _, candidate in asked]


def in_thousandths(sample):
    """As a runner hands samples over; truths of these are thousandths of a video of 1000 pixels."""
    from lit_vdistill.pool.text_units import sample_in_units

    return sample_in_units(sample, 1000.0, 1000.0)


def answered(*names, answers=ANSWERS):
    rows = {"A": A, "B": B, "C": C}
    return [
        Answered(
            in_thousandths(sample),
            f"<think>t</think><answer>{text}</answer>" if text else "",
        )
        for name in names
        for sample in questions_of(rows[name], name)
        for text in [answers[name][sample.meta["kind"]]]
    ]


def scores(benchmark, *names, group=None):
    asked = answered(*names)
    items = benchmark.items(asked, benchmark.verdicts(asked))
    if group:
        items = [item for item in items if group in item.groups]
    keys = {key for item in items for key in item.values}
    means = {key: mean(i.values[key] for i in items if key in i.values) for key in keys}
    return means | benchmark.derived(means)


def test_two_items_by_hand():
    found = scores(VStar(Scripted()), "A", "B")
    assert {key: found[key] for key in TWO_ITEMS} == pytest.approx(TWO_ITEMS, abs=1e-4)
    assert found.keys() == VStar.scores.keys()


def test_an_item_without_an_answer_scores_nothing_and_is_officially_left_out():
    found = scores(VStar(Scripted()), "A", "B", "C")
    assert (found["acc"], found["tIoU_2"]) == pytest.approx((1 / 3, 1 / 3))
    assert found["mAM"] == pytest.approx((1 / 3 + 1 / 3 * (0.25 + 0.5 + 1 / 12 + 0.625)) / 3)
    official = VStar(Scripted(), is_official=True)
    found = scores(official, "A", "B", "C")
    expected = {"acc": 1 / 3, "tIoU_1": 0.25, "mAM": 0.3542, "mLGM": 0.4766}
    expected |= {"joint/when_where_2": 1.0, "joint/what_when_1": 1 / 3}
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-4)
    # By duration and domain officially not even in Acc.
    assert scores(official, "A", "C", group="domain/Animals")["acc"] == 1.0
    assert scores(VStar(Scripted()), "A", "C", group="domain/Animals")["acc"] == 0.5
    assert any("left out" in remark for remark in official.remarks)


def test_parts_by_duration():
    assert scores(VStar(Scripted()), "A", "B", "C", group="duration/medium")["acc"] == 0.0
    assert scores(VStar(Scripted()), "A", "B", "C", group="duration/short")["acc"] == 1.0


def test_answers_to_what_are_rated_in_one_go_and_the_empty_ones_not_asked():
    rater = Scripted()
    asked = answered("A", "B", "C")
    verdicts = VStar(rater).verdicts(asked)
    assert rater.asked == [
        ("What does it do?", "running", "running"),
        ("What does it do?", "running", "sleeping"),
    ]
    assert isinstance(rater, Rater)
    assert issubclass(OpenAIRater, Rater)
    by_id = {one.sample.id: verdict for one, verdict in zip(asked, verdicts, strict=True)}
    assert by_id["C-vqa"].problem == "no answer"
    assert by_id["B-temporal"].problem == "no time span"
    assert by_id["B-temporal"].values["tIoU_1"] == 0.0
    assert by_id["B-spatial"].problem == "no box with its second"
    unrated = answered("A", answers={"A": ANSWERS["A"] | {"vqa": "swims"}})
    assert VStar(rater).verdicts(unrated)[0].problem == "no rating"
    assert VStar(rater).verdicts(unrated)[0].values == {"acc": 0.0}


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("running", 1.0),
        ("It is Running.", 1.0),
        ("runs", 0.0),
        ("it is sitting, standing, lying, sleeping, eating, drinking, running or jumping now", 0.0),
    ],
)
def test_without_a_rater_rules_decide_and_the_score_says_so(said, right):
    benchmark = VStar()
    asked = answered("A", answers={"A": ANSWERS["A"] | {"vqa": said}})
    assert benchmark.verdicts(asked)[0].values == {"acc": right}
    for name in ("acc", "mAM", "mLGM"):
        assert "by rules, without a judge" in benchmark.scores[name]
        assert "by rules" not in VStar(Scripted()).scores[name]
    assert "by rules" in benchmark.remarks[0]
    assert not any("by rules" in remark for remark in VStar(Scripted()).remarks)


def test_no_text_at_all_is_worth_nothing():
    asked = [Answered(one.sample, "", "undecodable") for one in answered("A")]
    verdicts = VStar().verdicts(asked)
    assert all(set(verdict.values.values()) == {0.0} for verdict in verdicts)
    assert all(verdict.problem for verdict in verdicts)


def test_an_item_with_a_question_less_is_named():
    asked = answered("A")[:-1]
    benchmark = VStar()
    with pytest.raises(ValueError, match="item A needs answers to all of .*missing: temporal_2"):
        benchmark.items(asked, benchmark.verdicts(asked))


def test_a_record_has_five_questions():
    asked = questions_of(RECORD, "vstar-0")
    assert [one.id for one in asked] == [f"vstar-0-{kind}" for kind in KINDS]
    vqa, temporal, spatial, spatial_2, temporal_2 = asked
    assert [one.task for one in (vqa, temporal, spatial)] == [
        Task.OPEN_ENDED,
        Task.TEMPORAL_GROUNDING,
        Task.SPATIO_TEMPORAL_GROUNDING,
    ]
    assert vqa.media == "videos/5587257558.mp4"
    assert (vqa.question, vqa.answer) == ("What does it do?", "running")
    assert temporal.question == "When does it run?\nThe video lasts 30.03 seconds."
    assert "at each of these seconds: 4." in spatial.question
    assert "at 1 whole seconds" in spatial_2.question
    assert "[0.078, 0.069, 0.234, 0.556]" in temporal_2.question
    assert spatial.evidence.boxes[0].box == pytest.approx((100 / 1280, 50 / 720, 300 / 1280, 5 / 9))
    assert temporal.evidence.spans == ((4.0, 9.0),)
    # Official prompts tell pixels of the video.
    fills = temporal_2.meta["fills"]
    assert fills["question"] == "When does it run?"
    assert (fills["width"], fills["height"], fills["boxes"]) == (
        1280,
        720,
        "[100.0, 50.0, 300.0, 400.0]",
    )
    assert spatial_2.meta["fills"]["question"] == "Where is it?"
    assert vqa.meta["groups"] == ["duration/short", "domain/Animals"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vid": None}, "'vid' must be a str"),
        ({"fps": 0}, "'fps' must be above 0, got 0"),
        ({"width": float("nan")}, "'width' must be a list of 1 finite"),
        ({"timestamps": [9.0, 4.0]}, "0 <= start <= end"),
        ({"timestamps": [4.0]}, "'timestamps' must be a list of 2 numbers"),
        ({"bboxes": []}, "needs 'evidence.boxes'"),
        ({"bboxes": {"4_120": {}}}, "'bboxes' must be a list"),
        ({"bboxes": [box(4.5, WHOLE)]}, "'bboxes.timestamp' must be a whole second, got 4.5"),
        ({"bboxes": [box("4", WHOLE)]}, "'bboxes.timestamp' must be a number"),
        ({"bboxes": [box(4, (0, 0, None, 10))]}, "'bboxes' must be a list of 4 numbers"),
        ({"answer": ""}, "'answer' must not be empty"),
        ({"domain": 3}, "'domain' must be a str"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        questions_of(RECORD | change, "x")


def test_a_broken_item_counts_once_and_videos_are_found(tmp_path):
    rows = [RECORD, RECORD | {"fps": 0}, RECORD]
    (tmp_path / "V_STaR_test.json").write_text(json.dumps(rows))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/5587257558.mp4").touch()
    samples, bad = VStar().read(tmp_path)
    assert len(samples) == len({one.id for one in samples}) == 10
    assert {one.media for one in samples} == {"deep/5587257558.mp4"}
    assert {one.meta["item"] for one in samples} == {"vstar-0", "vstar-2"}
    assert [one.id for one in bad] == ["vstar-1 (5587257558)"]
