import math

import pytest

from lit_vdistill.metrics.grounding import BoxIoU, TemporalIoU, TemporalRecall
from lit_vdistill.metrics.grouped import GroupedMean
from lit_vdistill.metrics.vstar import VStar
from lit_vdistill.metrics.vstar_item import ChainAnswer, VStarItem

PREDICTED = [(4.0, 10.0), None, (2.0, 8.0)]
TRUTH = [(2.0, 8.0)] * 3


def test_temporal_metrics_keep_failures_in_the_denominator():
    iou = TemporalIoU()
    iou.update(PREDICTED[:1], TRUTH[:1])
    iou.update(PREDICTED[1:], TRUTH[1:])
    assert iou.compute().item() == 0.5
    recalls = []
    for threshold in (0.3, 0.5, 0.7):
        metric = TemporalRecall(threshold)
        metric.update(PREDICTED, TRUTH)
        recalls.append(metric.compute().item())
    assert recalls == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    strict = TemporalRecall(0.5, is_strict=True)
    strict.update(PREDICTED, TRUTH)
    assert strict.compute().item() == pytest.approx(1 / 3)


def test_box_iou():
    metric = BoxIoU()
    metric.update([(0.0, 0.0, 100.0, 50.0), None], [(0.0, 0.0, 100.0, 100.0)] * 2)
    assert metric.compute().item() == 0.25


def test_nothing_added_is_not_zero():
    metric = TemporalIoU()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert math.isnan(metric.compute().item())


def test_grouped_mean_is_over_items_and_refuses_unknown_groups():
    metric = GroupedMean(["a", "b", "c"])
    metric.update([1.0, 0.0, 0.5], ["a", "a", "b"])
    means = {name: value.item() for name, value in metric.compute().items()}
    assert means == {"overall": 0.5, "a": 0.5, "b": 0.5}
    with pytest.raises(ValueError, match="'d' is not in list"):
        metric.update([1.0], ["d"])


def test_metrics_draw_themselves():
    from matplotlib import pyplot

    span, box = (2.0, 8.0), (0.0, 0.0, 10.0, 10.0)
    chain = ChainAnswer(span, {2: [box]})
    item = VStarItem(3, (2.0, 9.0), [(2, box), (3, box)], (chain, chain))
    updates = {
        TemporalIoU(): ([span], [span]),
        TemporalRecall(0.5): ([span], [span]),
        BoxIoU(): ([box], [box]),
        GroupedMean(["a", "b"]): ([1.0, 0.5], ["a", "b"]),
        VStar(): ([item],),
    }
    for metric, values in updates.items():
        metric.update(*values)
        figure, axis = metric.plot()
        assert axis.has_data()
        pyplot.close(figure)
