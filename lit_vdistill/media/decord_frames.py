"""Reading frames with decord, where it can be known to read the right ones.

decord jumps to a key frame and counts pictures from there. It goes wrong, without a word, where
pictures are lost at a jump, and in containers that store no exact times: such files are refused.
"""

import bisect
from collections.abc import Iterator
from typing import Any

import numpy as np

from lit_vdistill.media.containers import Timeline, open_video, pixel_aspect, read_timeline
from lit_vdistill.media.frames import FramePlan, Reading, Shaper
from lit_vdistill.media.pictures import Limits, Turn
from lit_vdistill.media.pyav_frames import turn_of

MISREAD = ("mpeg", "mpegts", "mxf", "ogg")
"""Containers in which decord finds its key frames in the wrong places; it hangs on some."""
TOLERANCE_S = 0.002
"""decord's times are 32-bit: after three hours they are as far off as this."""


def read_frames(path: str, plan: FramePlan, limits: Limits) -> Reading:
    """The frames of a video that a plan chooses, with their times.

    Raises:
        ValueError: When the file holds no pictures, or decord would read wrong ones.
        RuntimeError: When decord cannot open it.
        decord.DECORDError: When decord cannot decode it.
    """
    with open_video(path) as (container, stream):
        timeline = read_timeline(container, stream)
        _check_container(container.format.name, timeline)
        container.seek(timeline.seek_to, stream=stream)
        turn, aspect = turn_of(next(container.decode(stream))), pixel_aspect(stream)
    if sum(turn) % 2:
        raise ValueError("decord turns pictures, but does not mirror them")
    import decord

    # One thread: the reader lives and dies here, and other workers want the cores.
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1, fault_tol=1)
    if len(reader) != len(timeline.ticks):
        raise ValueError(f"decord counts {len(reader)} pictures of {len(timeline.ticks)}")
    true_s = [timeline.time_s(tick) for tick in timeline.ticks]
    indices, length_s = plan.choose(range(len(reader)), true_s.__getitem__)
    times_s = [true_s[i] for i in indices]
    claimed = np.array([reader.get_frame_timestamp(i)[0] for i in [0, *indices]], dtype=float)
    # decord starts its clock at the first picture. Written so that NaN fails.
    is_true = np.abs(claimed[1:] - claimed[0] - times_s + true_s[0]) <= TOLERANCE_S
    if not is_true.all():
        first = int(np.argmin(is_true))
        wrong, right = claimed[1 + first], times_s[first]
        raise ValueError(f"decord has {wrong:.6g} s for the picture at {right:.6g} s")
    # They come upright, and one by one: all at their full size would fill the memory.
    shaper = Shaper(limits, 1 / aspect if turn.is_transposed else aspect)
    frames = [shaper.shape(picture, Turn()) for picture in _pictures(reader, indices)]
    return Reading(np.stack(frames), times_s, length_s)


def _pictures(reader: Any, indices: list[int]) -> Iterator[np.ndarray]:
    """Pictures by their places, each walked to from the key frame before it.

    decord's own way there, `skip_frames`, gives up after a number of attempts, and shows another
    picture: seen behind a thousand small ones.
    """
    keys, position = reader.get_key_indices(), -1
    for index in indices:
        key = keys[bisect.bisect_right(keys, index) - 1]
        if position < key:
            reader.seek_accurate(key)
            position = key
        for _ in range(index - position):
            reader.next()
        position = index + 1
        picture = reader.next().asnumpy()
        if picture.shape[2:] != (3,):
            # Seen of turned pictures on some machines, a quarter of each black.
            raise ValueError(f"decord has pictures of shape {picture.shape}, not of three colours")
        yield picture


def _check_container(name: str, timeline: Timeline) -> None:
    if name.split(",")[0] in MISREAD:
        raise ValueError(f"decord misreads this kind of container ({name})")
    if timeline.has_hidden_pictures:
        raise ValueError("decord counts the pictures that an edit list hides")
    if timeline.has_early_pictures:
        raise ValueError("decord loses pictures that show before the key frame that they follow")
