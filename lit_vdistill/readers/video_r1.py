"""Video-R1's rows: `problem`, `problem_type`, `solution`, `path`, `options`; `process` for SFT."""

import re
from typing import Any

from lit_vdistill.readers.options import bare_options
from lit_vdistill.readers.schema import checked, expect, media_type_of, text_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample

_TASKS = {
    "multiple choice": Task.MCQ,
    "numerical": Task.NUMERICAL,
    "regression": Task.NUMERICAL,
    "OCR": Task.OCR,
    "free-form": Task.OPEN_ENDED,
}
_SOLUTION = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def parse_video_r1(raw: Any) -> VideoSample:
    """One row of Video-R1's list.

    Raises:
        ValueError: Names the key, what was expected and what came.
    """
    raw = expect(raw, dict, "row")
    kind = text_of(raw, "problem_type")
    if kind not in _TASKS:
        raise ValueError(f"'problem_type' must be one of {sorted(_TASKS)}, got '{kind:.80}'")
    solution = _SOLUTION.search(text_of(raw, "solution"))
    if not solution:
        raise ValueError(f"'solution' has no <answer>…</answer>: {raw['solution']!r:.80}")
    options = expect(raw.get("options") or [], list, "options")
    process = expect(raw.get("process") or "", str, "process").strip()
    return checked(
        VideoSample(
            id=str(raw.get("problem_id", "")),
            task=_TASKS[kind],
            question=text_of(raw, "problem"),
            answer=solution.group(1).strip(),
            media=text_of(raw, "path").removeprefix("./"),
            media_type=media_type_of(raw.get("data_type", "video")),
            options=bare_options([expect(option, str, "options") for option in options]),
            demonstration=f"{process}\n{solution.group(0)}" if process else "",
            meta={"source": "video-r1"},
        )
    )
