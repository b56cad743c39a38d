import math
import warnings
from dataclasses import replace

import pytest

from lit_vdistill.metrics.vstar import VStar
from lit_vdistill.metrics.vstar_item import (
    ChainAnswer,
    VStarItem,
    arithmetic_mean,
    log_geometric_mean,
)

WHOLE = (0.0, 0.0, 100.0, 100.0)
ITEM_A = VStarItem(
    rating=3,
    span=(2.0, 8.0),
    boxes=[(2, WHOLE), (3, WHOLE)],
    chains=(
        ChainAnswer((4.0, 10.0), {2: [(50.0, 0.0, 150.0, 100.0)]}),
        ChainAnswer((2.0, 5.0), {3: [(0.0, 0.0, 100.0, 50.0), (0.0, 0.0, 10.0, 10.0)]}),
    ),
    duration_s=30.0,
    domain="Animals",
)
ITEM_B = VStarItem(
    rating=1,
    span=(5.0, 10.0),
    boxes=[(7, (10.0, 10.0, 20.0, 20.0))],
    chains=(
        ChainAnswer(None, {}),
        ChainAnswer((0.0, 10.0), {7: [(10.0, 10.0, 20.0, 20.0)]}),
    ),
    duration_s=60.0,
    domain="Sports",
)
ITEM_C = VStarItem(
    rating=None,
    span=(0.0, 1.0),
    boxes=[(0, WHOLE)],
    # Right in time and place, without an answer.
    chains=(ChainAnswer((0.0, 1.0), {0: [WHOLE]}), ChainAnswer((0.0, 1.0), {0: [WHOLE]})),
    has_answer=False,
    duration_s=200.0,
)
TWO_ITEMS = {
    "acc": 0.5, "tIoU_1": 0.25, "tIoU_2": 0.5, "vIoU_1": 1 / 12, "vIoU_2": 0.625,
    "AM_1": 0.27778, "AM_2": 0.54167, "mAM": 0.4097, "LGM_1": 0.3559, "LGM_2": 0.7890,
    "mLGM": 0.5725, "AP@0.1_1": 0.25, "AP@0.5_2": 0.75, "R@0.5_1": 0.5, "R@0.7_2": 0.0,
    "joint/what_when_1": 0.5, "joint/what_where_1": 0.5, "joint/all_2": 0.5,
    "joint/when_where_2": 1.0,
}  # fmt: skip
"""A and B by hand; the benchmark's test has them too, from texts."""


def scores(items, **kwargs):
    metric = VStar(**kwargs)
    for item in items:
        metric.update([item])
    return {key: value.item() for key, value in metric.compute().items()}


def test_two_items_by_hand():
    found = scores([ITEM_A, ITEM_B])
    assert {key: found[key] for key in TWO_ITEMS} == pytest.approx(TWO_ITEMS, abs=1e-4)


def test_an_item_without_an_answer_stays_in_every_denominator():
    found = scores([ITEM_A, ITEM_B, ITEM_C])
    assert found["acc"] == pytest.approx(1 / 3)
    assert found["tIoU_2"] == pytest.approx(1 / 3)
    assert found["vIoU_2"] == pytest.approx(0.625 * 2 / 3)
    assert found["AP@0.5_2"] == pytest.approx(0.5)
    assert found["joint/when_where_2"] == pytest.approx(2 / 3)


def test_official_denominators_divide_the_means_by_what_was_answered():
    found = scores([ITEM_A, ITEM_B, ITEM_C], is_official=True)
    expected = {"acc": 1 / 3, "tIoU_1": 0.25, "mAM": 0.3542, "mLGM": 0.4766}
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-4)
    # Of the joint rates, the one in which no answer is asked for.
    assert found["joint/when_where_2"] == 1.0
    assert found["joint/what_when_1"] == pytest.approx(1 / 3)
    # By duration, it divides Acc too by what was answered.
    unanswered = replace(ITEM_C, duration_s=30.0)
    assert scores([ITEM_A, unanswered], is_official=True)["duration/short/acc"] == 1.0
    assert scores([ITEM_A, unanswered])["duration/short/acc"] == 0.5
    assert "duration/long/acc" not in scores([ITEM_A, ITEM_C], is_official=True)


@pytest.mark.parametrize("corner", [math.nan, math.inf])
def test_a_predicted_number_that_is_none_scores_nothing(corner):
    """Beside the others of its second, and without a trace in the means."""
    when, where = ITEM_A.chains[1].span, dict(ITEM_A.chains[1].boxes)
    where[3] = [(0.0, corner, 100.0, 100.0), *where[3]]
    bad = replace(
        ITEM_A, chains=(ChainAnswer((4.0, corner), {2: [(corner,) * 4]}), ChainAnswer(when, where))
    )
    found = scores([bad])
    assert (found["tIoU_1"], found["vIoU_1"]) == (0.0, 0.0)
    assert (found["tIoU_2"], found["vIoU_2"]) == (0.5, 0.25)
    for truth in ({"span": (0.0, corner)}, {"boxes": [(2, (0.0, 0.0, 1.0, corner))]}):
        with pytest.raises(ValueError, match="not finite"):
            scores([replace(ITEM_A, **truth)])


def test_a_second_may_have_two_true_boxes():
    far = (200.0, 0.0, 300.0, 100.0)
    item = replace(ITEM_A, boxes=[(2, WHOLE), (2, far), (3, WHOLE)])
    both = ChainAnswer((2.0, 8.0), {2: [WHOLE, (200.0, 0.0, 300.0, 50.0)]})
    found = scores([replace(item, chains=(both, both))])
    assert found["vIoU_1"] == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    assert found["AP@0.7_1"] == pytest.approx(1 / 3)


def test_thresholds_are_reached_or_exceeded():
    names = ("R@0.5_2", "AP@0.5_2", "joint/what_when_2")
    assert [scores([ITEM_A])[name] for name in names] == [1.0, 0.5, 1.0]
    assert [scores([ITEM_A], is_strict=True)[name] for name in names] == [0.0, 0.0, 1.0]
    three_tenths = replace(ITEM_A, span=(0.0, 10.0), chains=(ChainAnswer((0.0, 3.0), {}),) * 2)
    assert scores([three_tenths])["joint/what_when_1"] == 1.0
    assert scores([three_tenths], is_strict=True)["joint/what_when_1"] == 0.0


def test_parts_by_duration_and_domain():
    found = scores([ITEM_A, ITEM_B, ITEM_C], domains=["Animals", "Sports", "Food"])
    assert found["duration/short/acc"] == 1.0
    assert found["duration/medium/acc"] == 0.0
    assert found["duration/long/mAM"] == 0.0
    assert found["domain/Animals/mAM"] == scores([ITEM_A])["mAM"]
    assert "domain/Food/acc" not in found


@pytest.mark.parametrize(("rating", "right"), [(0, 0), (1, 0), (2, 1), (3, 1), (7, 0), (None, 0)])
def test_ratings(rating, right):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a perfect score of one item
        assert scores([replace(ITEM_A, rating=rating)])["acc"] == right


ROWS = {  # Acc, tIoU and spatial IoU of both chains, mAM, mLGM: VISD Table 1
    "VISD": (61.9, (26.8, 27.2), (26.7, 6.3), 35.1, 48.9),
    "VisionCoach": (61.2, (25.4, 25.4), (27.1, 5.3), 34.3, 47.5),
    "Open-o3-Video": (60.1, (25.0, 23.6), (25.6, 5.6), 33.3, 45.8),
    "Qwen2.5-VL": (33.5, (15.4, 13.8), (17.0, 2.5), 19.3, 22.4),
}


@pytest.mark.parametrize("model", ROWS)
def test_rows_of_the_papers_table_follow_from_their_parts(model):
    acc, times, spaces, mean_am, mean_lgm = ROWS[model]
    chains = [(acc / 100, t / 100, s / 100) for t, s in zip(times, spaces, strict=True)]
    assert 50 * sum(arithmetic_mean(*c) for c in chains) == pytest.approx(mean_am, abs=0.06)
    assert 50 * sum(log_geometric_mean(*c) for c in chains) == pytest.approx(mean_lgm, abs=0.06)


def test_a_perfect_score_warns_and_does_not_crash():
    with pytest.warns(UserWarning, match="infinite"):
        assert log_geometric_mean(1.0, 0.5, 0.5) > 4


def test_nothing_added_gives_nothing():
    assert VStar().compute() == {}
