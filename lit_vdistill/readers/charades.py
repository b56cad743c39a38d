"""Charades-STA: when in a video is what a sentence says.

Either the JSON of Time-R1, `{video: {"duration", "timestamps": [[s, e], …], "sentences": […]}}`,
where some splits have `video_duration`, or the original text, one `VIDEO START END##SENTENCE` a
line. Queries have no ids of their own; they are called `VIDEO_0`, `VIDEO_1`, … in the order of the
file. Videos are `VIDEO.mp4` below the root. Ends beyond the video (562 of 3 720 in the test split)
and empty spans are left as they are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lit_vdistill.readers.schema import checked, expect, seconds, span_of, text_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import Evidence, VideoSample

_NUM_PARTS = 3


def is_charades(value: Any) -> bool:
    """Whether a JSON file is Charades-STA's."""
    entries = value.values() if isinstance(value, dict) else ()
    return any(isinstance(entry, dict) and "sentences" in entry for entry in entries)


def queries_of(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a query; an entry that is broken gives one row, for `parse_charades` to name."""
    for video, entry in value.items():
        entry = entry if isinstance(entry, dict) else {}
        spans, sentences = entry.get("timestamps"), entry.get("sentences")
        row = {"video": video, "duration": entry.get("duration", entry.get("video_duration"))}
        if not (isinstance(spans, list) and isinstance(sentences, list)):
            yield row | {"id": video}
            continue
        for number in range(max(len(spans), len(sentences))):
            parts = {"timestamp": spans, "sentence": sentences}
            known = {key: part[number] for key, part in parts.items() if number < len(part)}
            yield row | {"id": f"{video}_{number}"} | known


def query_of_line(line: str, counts: dict[str, int]) -> dict[str, Any]:
    """The row of a line of the original text.

    Args:
        line: `VIDEO START END##SENTENCE`.
        counts: Queries of each video until now; goes up.
    """
    head, _, sentence = line.partition("##")
    parts = head.split()
    if len(parts) != _NUM_PARTS or not sentence.strip():
        raise ValueError(f"expected VIDEO START END##SENTENCE, got {line!r:.80}")
    video, *times = parts
    number = counts[video] = counts.get(video, -1) + 1
    row = {"id": f"{video}_{number}", "video": video, "sentence": sentence.strip()}
    return row | {"timestamp": times}


def parse_charades(raw: Any) -> VideoSample:
    """One query.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    start, end = span_of(raw.get("timestamp"), "timestamps")
    duration = raw.get("duration")
    meta: dict[str, str | float] = {"source": "charades-sta"}
    if duration is not None:
        meta["duration_s"] = seconds(duration, "duration")
    return checked(
        VideoSample(
            id=expect(raw["id"], str, "id"),
            task=Task.TEMPORAL_GROUNDING,
            question=text_of(raw, "sentence"),
            answer=f"[{start}, {end}]",
            media=f"{raw['video']}.mp4",
            evidence=Evidence(spans=((start, end),)),
            meta=meta,
        )
    )
