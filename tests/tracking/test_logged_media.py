import numpy as np
import pytest

from lit_vdistill.tracking.logged_media import filmstrip


def painted(count, height=48, width=64):
    """Frames of one grey each, 10 apart."""
    return np.stack([np.full((height, width, 3), 10 * i, dtype=np.uint8) for i in range(count)])


@pytest.mark.parametrize(
    ("count", "shown"), [(1, [0]), (3, [0, 1, 2]), (15, [0, 2, 4, 6, 8, 10, 12, 14])]
)
def test_frames_stand_side_by_side_from_the_first_to_the_last(count, shown):
    strip = filmstrip(painted(count), [0.5 * i for i in range(count)])
    assert strip.size == (128 * len(shown), 96 + 14)
    middles = [strip.getpixel((128 * place + 64, 48)) for place in range(len(shown))]
    assert middles == [(10 * i,) * 3 for i in shown]


def test_each_has_its_time_below():
    strips = [filmstrip(painted(2), times) for times in ([0.0, 1.0], [0.0, 2.0])]
    left, right = ([s.crop((x, 96, x + 128, 110)) for s in strips] for x in (0, 128))
    assert left[0].tobytes() == left[1].tobytes()
    assert right[0].tobytes() != right[1].tobytes()


@pytest.mark.parametrize(("count", "times"), [(0, []), (2, [0.0])])
def test_frames_without_times_are_refused(count, times):
    with pytest.raises(ValueError, match=f"got {count} frames and {len(times)} times"):
        filmstrip(painted(2)[:count], times)
