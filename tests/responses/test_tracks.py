import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.responses.tracks import boxes_by_second

A, B = (1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.5, 8.0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"3": [1, 2, 3, 4]}', {3: (A,)}),
        ("{'3': [1,2,3,4], '4': [5,6,7.5,8]}", {3: (A,), 4: (B,)}),
        ('```json\n{"3": [[1, 2, 3, 4], [5, 6, 7.5, 8]]}\n```', {3: (A, B)}),
        ('[{"3": [1, 2, 3, 4]}, {"4": [5, 6, 7.5, 8]}]', {3: (A,), 4: (B,)}),
        ("[[3, [1, 2, 3, 4]], ['4', [5, 6, 7.5, 8]]]", {3: (A,), 4: (B,)}),
        ('{"3": [1, 2, 3, 4], "4": [5, 6', {3: (A,)}),
        ('"3": [1, 2, 3, 4]', {3: (A,)}),
        ('{3s: [1, 2, 3, 4], "4.0": [5, 6, 7.5, 8]}', {3: (A,), 4: (B,)}),
        ('{"3.5": [1, 2, 3, 4]}', {}),
        ('{"0:03": [1, 2, 3, 4]}', {}),
        ('{"-3": [1, 2, 3, 4]}', {}),
        ('{"3": [1, 2, 3]}', {}),
        ('{"3": ["1", "2", "3", "4"]}', {}),
        ('{"3": [NaN, 2, 3, 4]}', {}),
        ('{"3": [1e999, 2, 3, 4]}', {}),
        ('{"3": null}', {}),
        ("[1, 2, 3, 4]", {}),
        ('{"٣": [1, 2, 3, 4]}', {}),
        ("", {}),
        (
            "<obj>dog</obj><box>[1,2,3,4]</box>at<t>3</t>s\n"
            "<obj>a</obj><box>[1,2,3,4]</box><box>[5,6,7.5,8]</box>at<t>4.0</t>s",
            {3: (A,), 4: (A, B)},
        ),
        ("<obj>dog</obj><box>[1,2,3,4]</box>at<t>3.4</t>s", {}),
    ],
)
def test_both_ways_of_writing(text, found):
    assert boxes_by_second(text) == found


@given(st.text(alphabet="{}[]\"':,.-0123456789sN <>t/box\u0663", max_size=80))
def test_no_text_raises(text):
    for second, boxes in boxes_by_second(text).items():
        assert type(second) is int
        assert all(len(box) == 4 for box in boxes)


@pytest.mark.parametrize("part", ["[", "1 ", "1        ", '{"1": ', "[1, ", "[1,[", "[1, 2, 3, 4]"])
def test_the_cost_is_linear(part):
    begun = time.process_time()
    boxes_by_second(part * (400_000 // len(part)))
    assert time.process_time() - begun < 5
