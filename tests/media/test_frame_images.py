import numpy as np
import pytest

from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.media.frame_images import as_images
from lit_vdistill.types import Medium


def frames(*levels):
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 2, 2, 3))


# Evenly from the first to the last of a video at 2 fps: 5 frames of 10, at true times.
VIDEO = Medium("video", frames(0, 1, 2, 3, 4), (0.0, 1.0, 2.0, 3.5, 4.5), 5.0)


def shown(keys, times):
    medium, lines = as_images(VIDEO, [(t, frames(level)[0]) for t, level in keys], times)
    assert medium.kind == "image"
    assert lines.length_s == 5.0
    levels = medium.frames[:, 0, 0, 0].tolist()
    return list(zip(lines.labels, levels, medium.times_s, strict=True))


def test_true_lines_are_the_streams_times():
    assert [label for label, _, _ in shown([], "true")] == ["0.0s", "1.0s", "2.0s", "3.5s", "4.5s"]


def test_even_lines_share_the_length():
    """Frame i of n at i/n of the length: the last one stands at 4 s and shows 4.5 s."""
    assert shown([], "even")[-1] == ("4.0s", 4, 4.5)
    assert [label for label, _, _ in shown([], "even")] == ["0.0s", "1.0s", "2.0s", "3.0s", "4.0s"]


def test_key_frames_stand_where_their_time_is_reached():
    keys = [(1.6, 91), (0.2, 90), (9.0, 92)]
    assert shown(keys, "true") == [
        ("0.0s", 0, 0.0), ("0.2s", 90, 0.2), ("1.0s", 1, 1.0), ("1.6s", 91, 1.6), ("2.0s", 2, 2.0),
        ("3.5s", 3, 3.5), ("4.5s", 4, 4.5), ("9.0s", 92, 9.0),
    ]  # fmt: skip


def test_released_key_frames_have_whole_seconds_and_none_behind_the_last_line():
    keys = [(1.6, 91), (0.2, 90), (4.4, 92), (4.6, 93)]
    assert shown(keys, "even") == [
        ("0s", 90, 0.2), ("0.0s", 0, 0.0), ("1.0s", 1, 1.0), ("2s", 91, 1.6), ("2.0s", 2, 2.0),
        ("3.0s", 3, 3.5), ("4s", 92, 4.4), ("4.0s", 4, 4.5),
    ]  # fmt: skip


@pytest.mark.parametrize("values", [{"key_frames": True}, {"frame_times": "even"}])
def test_a_processors_own_video_takes_neither(values):
    (key,) = values
    with pytest.raises(ValueError, match=rf"data.prompt.{key} needs data.prompt.frames_as images"):
        PromptConfig(**values)
    PromptConfig(frames_as="images", **values)
