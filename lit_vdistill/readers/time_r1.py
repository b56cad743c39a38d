"""Time-R1's training rows (xiaomi-research/time-r1, `train_2k5.json`).

`timestamp` is taken from the start of the part that the row names: all of `video`, or
`video_start` to `video_end` of it.
"""

from typing import Any

from lit_vdistill.readers.schema import checked, clip_of, expect, seconds, span_of, text_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import Evidence, VideoSample


def parse_time_r1(raw: Any, number: int) -> VideoSample:
    """One row.

    Args:
        raw: The row.
        number: Its place in the file, from 0; names it where it has no `qid`.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "row")
    start, end = span_of(raw.get("timestamp"), "timestamp")
    file = text_of(raw, "video").removeprefix("./")
    window = (raw.get("video_start"), raw.get("video_end"))
    name = raw.get("qid")
    return checked(
        VideoSample(
            id=f"time-r1-{number}" if name is None else str(name),
            task=Task.TEMPORAL_GROUNDING,
            question=text_of(raw, "sentence"),
            answer=f"[{start}, {end}]",
            media=file if window == (None, None) else clip_of(file, *window),
            evidence=Evidence(spans=((start, end),)),
            meta={"source": "time-r1", "duration_s": seconds(raw.get("duration"), "duration")},
        )
    )
