from dataclasses import replace

import pytest

from lit_vdistill.readers.schema import checked
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import answer_quality
from lit_vdistill.types import BoxAt, Evidence

WHOLE = (0.0, 0.0, 100.0, 100.0)
TRUTH = Evidence(boxes=(BoxAt(2.0, "dog", WHOLE), BoxAt(3.0, "dog", WHOLE)))


@pytest.fixture
def sample(make_sample):
    return make_sample("spatio_temporal_grounding", evidence=TRUTH)


@pytest.mark.parametrize(
    ("answer", "worth"),
    [
        # V-STaR's items by hand: half the width is off and a second is missing.
        ('{"2": [50, 0, 150, 100]}', 1 / 6),
        ('{"3": [[0, 0, 100, 50], [0, 0, 10, 10]]}', 0.25),
        ("<obj>dog</obj><box>[0,0,100,100]</box>at<t>2</t>s", 0.5),
        ('{"2": [0, 0, 100, 100], "3": [0, 0, 100, 100], "9": [0, 0, 1, 1]}', 1.0),
        ('{"9": [0, 0, 100, 100]}', 0.0),
        ("[0, 0, 100, 100]", 0.0),
        ("", 0.0),
    ],
)
def test_quality_by_hand(sample, answer, worth):
    response = parse_response(f"<think>t</think><answer>{answer}</answer>")
    assert answer_quality(response, sample) == pytest.approx(worth)


def test_a_second_may_have_two_true_boxes(sample):
    far = BoxAt(2.0, "cat", (200.0, 0.0, 300.0, 100.0))
    both = replace(sample, evidence=replace(TRUTH, boxes=(*TRUTH.boxes, far)))
    answer = '{"2": [[0, 0, 100, 100], [200, 0, 300, 50]]}'
    response = parse_response(f"<think>t</think><answer>{answer}</answer>")
    assert answer_quality(response, both) == pytest.approx((1 + 0 + 0.5) / 3)


@pytest.mark.parametrize(
    ("evidence", "message"),
    [
        (Evidence(), "needs 'evidence.boxes'"),
        (Evidence(boxes=(BoxAt(2.5, "dog", (0.0, 0.0, 1.0, 1.0)),)), "must be at whole seconds"),
        (Evidence(boxes=(BoxAt(None, "dog", (0.0, 0.0, 1.0, 1.0)),)), "must be at whole seconds"),
    ],
)
def test_a_record_without_its_truth_is_refused(make_sample, evidence, message):
    with pytest.raises(ValueError, match=message):
        checked(make_sample("spatio_temporal_grounding", evidence=evidence))
