import pytest

from lit_vdistill.media.frames import FramePlan, length_of
from lit_vdistill.media.video import FrameConfig

VISD = FramePlan(max_frames=16, fps=2.0, min_frames=4)
"""Of the release: two frames a second, between four and sixteen."""


def numbers(plan, count, fps):
    return plan.choose(range(count), lambda index: index / fps)


@pytest.mark.parametrize(
    ("seconds", "fps", "expected"),
    [(60, 30, 16), (8, 30, 16), (7.5, 30, 14), (7, 25, 14), (3.3, 30, 6), (1, 30, 4), (0.1, 30, 2)],
)
def test_frames_by_rate_are_an_even_number_between_bounds(seconds, fps, expected):
    count = round(seconds * fps)
    chosen, length_s = numbers(VISD, count, fps)
    assert len(chosen) == expected
    assert chosen[0] == 0
    assert chosen[-1] == count - 1
    assert length_s == pytest.approx(count / fps)


def test_without_a_rate_there_are_as_many_as_asked():
    assert numbers(FramePlan(5), 9, 4)[0] == [0, 2, 4, 6, 8]
    assert numbers(FramePlan(16), 3, 4)[0] == [0, 1, 2]
    assert numbers(FramePlan(16, 2.0, 4), 1, 4) == ([0], 0.0)


def test_a_window_counts_by_its_own_length():
    # 30 pictures of 3 s at 10 a second, of 100.
    chosen, length_s = numbers(VISD._replace(window=(2.0, 5.0)), 100, 10)
    assert length_s == pytest.approx(3.0)
    assert len(chosen) == 6
    assert (chosen[0], chosen[-1]) == (20, 49)
    with pytest.raises(ValueError, match=r"no picture shows from 20.0 s to 21.0 s, the last is at"):
        numbers(VISD._replace(window=(20.0, 21.0)), 100, 10)


def test_frames_at_times_are_those_that_show_then():
    plan = FramePlan(2, at_s=(0.99, 0.5, 7.0, 0.0, 0.999))
    assert numbers(plan, 20, 10)[0] == [0, 5, 9, 10, 19]
    # What lies outside of a window is its first frame, or its last.
    assert numbers(plan._replace(window=(0.4, 0.8)), 20, 10)[0] == [4, 5, 7]


def test_uneven_times_last_as_long_as_they_do_on_average():
    assert length_of([0.0, 1.0, 4.0], float) == 6.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fps": 0.0}, "fps must be above 0, or null, got 0.0"),
        ({"fps": float("nan")}, "fps must be above 0"),
        ({"max_frames": 0}, "1 <= min_frames <= max_frames, got 4 and 0"),
        ({"fps": 2.0, "max_frames": 3}, "1 <= min_frames <= max_frames, got 4 and 3"),
        ({"min_pixels": 2, "max_pixels": 1}, "min_pixels 2 is above max_pixels 1"),
        ({"image_min_pixels": 200_000}, "image_min_pixels 200000 is above image_max_pixels 105369"),
    ],
)
def test_a_plan_that_no_video_fits_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FrameConfig(**values)
