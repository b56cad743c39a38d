import pytest

from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.tracking.drawn_boxes import nearest_frame, predicted_boxes
from lit_vdistill.types import BoxAt

TRUE = BoxAt(3.0, "dog", (0.0, 0.0, 9.0, 9.0))
TEXT = (
    "<think><obj>cat</obj><box>[1,2,3,4]</box>at<t>1.5</t>s</think>"
    "<answer><box>[5,6,7,8]</box><box>[x]</box></answer>"
)


@pytest.mark.parametrize(("annotated", "at"), [([TRUE], 3.0), ([], None)])
def test_a_box_of_the_answer_is_at_the_first_true_ones_time(annotated, at):
    assert predicted_boxes(parse_response(TEXT), annotated) == [
        BoxAt(1.5, "cat", (1.0, 2.0, 3.0, 4.0)),
        BoxAt(at, "answer", (5.0, 6.0, 7.0, 8.0)),
    ]


@pytest.mark.parametrize(("time_s", "place"), [(None, 0), (0.4, 0), (1.6, 2), (99.0, 2)])
def test_the_nearest_frame_is_the_firsts_without_a_time(time_s, place):
    assert nearest_frame(BoxAt(time_s, "dog", TRUE.box), (0.0, 1.0, 2.0)) == place
