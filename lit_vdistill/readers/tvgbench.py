"""TVGBench (xiaomi-research/time-r1, `tvgbench.json`): 800 queries of five sources.

A row's answer is `"s-e"` in seconds from the start of its file. Where `start` and `end` are set, in
252 rows, the file is that part of a longer source, cut out beforehand: `duration` is `end - start`,
and a file of another length is the uncut source, which `data check` says. Rows have no ids, and one
pair of path and question occurs twice: they are called by their number. Eleven truths have no
length and 27 end behind the video; they stay, as the benchmark counts them.
"""

import re
from typing import Any

from lit_vdistill.readers.schema import checked, expect, seconds, span_of, text_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import Evidence, VideoSample

_ANSWER = re.compile(r"\s*([0-9.]{1,30})\s*-\s*([0-9.]{1,30})\s*")


def parse_tvgbench(raw: Any, number: int) -> VideoSample:
    """One row.

    Args:
        raw: The row.
        number: Its place in the file, from 0.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "row")
    answer = _ANSWER.fullmatch(text_of(raw, "answer"))
    if not answer:
        raise ValueError(f"'answer' must be 'START-END' in seconds, got {raw['answer']!r:.80}")
    start, end = span_of(list(answer.groups()), "answer")
    return checked(
        VideoSample(
            id=f"tvgbench-{number}",
            task=Task.TEMPORAL_GROUNDING,
            question=text_of(raw, "question"),
            answer=f"[{start}, {end}]",
            media=text_of(raw, "path").removeprefix("./"),
            evidence=Evidence(spans=((start, end),)),
            meta={
                "source": str(raw.get("dataset_name") or "nlq"),
                "kind": str(raw.get("qsemtype", "")),
                "duration_s": seconds(raw.get("duration"), "duration"),
            },
        )
    )
