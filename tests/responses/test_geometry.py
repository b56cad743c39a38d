import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.responses.geometry import box_iou, temporal_iou


@pytest.mark.parametrize(
    ("predicted", "truth", "iou"),
    [
        ((4.0, 10.0), (2.0, 8.0), 0.5),
        ((2.0, 5.0), (2.0, 8.0), 0.5),
        ((2.0, 8.0), (2.0, 8.0), 1.0),
        ((8.0, 9.0), (2.0, 8.0), 0.0),
        ((8.0, 2.0), (2.0, 8.0), 0.0),
        ((3.0, 3.0), (3.0, 3.0), 0.0),
    ],
)
def test_temporal_iou_by_hand(predicted, truth, iou):
    assert temporal_iou(predicted, truth) == iou


@pytest.mark.parametrize(
    ("predicted", "iou"),
    [
        ((0.0, 0.0, 100.0, 100.0), 1.0),
        ((50.0, 0.0, 150.0, 100.0), 1 / 3),
        ((0.0, 0.0, 100.0, 50.0), 0.5),
        ((0.0, 0.0, 10.0, 10.0), 0.01),
        ((100.0, 0.0, 200.0, 100.0), 0.0),
        ((100.0, 100.0, 0.0, 0.0), 0.0),
        ((5.0, 5.0, 5.0, 5.0), 0.0),
    ],
)
def test_box_iou_by_hand(predicted, iou):
    assert box_iou(predicted, (0.0, 0.0, 100.0, 100.0)) == pytest.approx(iou)


spans = st.tuples(st.floats(0, 50), st.floats(0, 50)).map(lambda pair: (min(pair), max(pair)))


@given(spans, spans)
def test_temporal_iou_is_symmetric_and_bounded(one, other):
    assert 0.0 <= temporal_iou(one, other) <= 1.0
    assert temporal_iou(one, other) == temporal_iou(other, one)
