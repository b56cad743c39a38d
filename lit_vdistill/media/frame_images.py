"""A video as images of their own: which stand in a prompt, in what order, and what each is called.

As VISD's release and its kin show videos: a line a frame with its time, and annotated key frames
among them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lit_vdistill.responses.prompts import FrameLines
from lit_vdistill.types import Medium

FrameTimes = Literal["true", "even"]


def as_images(
    video: Medium, key_frames: Sequence[tuple[float, np.ndarray]], times: FrameTimes
) -> tuple[Medium, FrameLines]:
    """The frames of a video as images, key frames before the first frame that shows at their time.

    Args:
        video: Frames with their true times.
        key_frames: Times in seconds with their pictures, as large as the frames.
        times: `true`: a frame's line has its true time. `even`: frame i of n has i/n of the video's
            length, which is up to a frame's share too early, a key frame the nearest whole second,
            and key frames behind the last frame's line are left out: the release's way.
    """
    count = len(video.times_s)
    shown_s = list(video.times_s)
    if times == "even":
        shown_s = [video.length_s * i / count for i in range(count)]
    lines = [(f"{second:.1f}s", *rest) for second, *rest in zip(
        shown_s, video.times_s, video.frames, strict=True
    )]  # fmt: skip
    reached = shown_s if times == "true" else [float(int(second)) for second in shown_s]
    # From the last on, so that places stay.
    for time_s, picture in sorted(key_frames, key=lambda key: key[0], reverse=True):
        second = time_s if times == "true" else round(time_s)
        place = bisect_left(reached, second)
        if place == count and times == "even":
            continue
        label = f"{second:.1f}s" if times == "true" else f"{second}s"
        lines.insert(place, (label, time_s, picture))
    labels, times_s, frames = zip(*lines, strict=True)
    return Medium("image", np.stack(frames), times_s), FrameLines(labels, video.length_s)
