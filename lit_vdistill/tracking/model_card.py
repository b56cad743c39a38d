"""What stands beside an exported student, so that it can be used as it was trained."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lit_vdistill.media.video import FrameConfig
from lit_vdistill.types import Task


@dataclass(frozen=True)
class TrainingData:
    """What a student was trained on, and how it was asked."""

    files: Mapping[str, str]
    """Record and pool files by their role, e.g. `training`."""
    template: str
    """Name of the prompt template."""
    system: str | Mapping[Task, str]
    """The template's system text, or one by task."""
    frames: FrameConfig
    frames_as: str
    box_units: str


@dataclass(frozen=True)
class StudentFacts:
    """What a card says."""

    name: str
    base: str
    """Model path that the run started from."""
    method: str
    """Class of the stage, and its first sentence."""
    num_steps: int
    scores: Mapping[str, float] = field(default_factory=dict)
    """Last validation of the run, named as in the logs."""
    data: TrainingData | None = None


def fingerprint(path: str) -> str:
    """The first twelve digits of a file's SHA-256, read in pieces."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def model_card(facts: StudentFacts) -> str:
    """The card, as Hugging Face shows it: Markdown with a head of its own keys."""
    head = ["---", "library_name: transformers", "pipeline_tag: video-text-to-text"]
    if not Path(facts.base).exists() and facts.base.count("/") == 1 and facts.base[0].isalnum():
        head += [] if facts.base.startswith("tiny/") else [f"base_model: {facts.base}"]
    parts = [
        *head,
        "---",
        "",
        f"# {facts.name}",
        "",
        f"Trained by lit_vdistill from `{facts.base}`, {facts.num_steps} optimizer steps.",
        f"Method: {facts.method}",
        "",
        *(_data(facts.data) if facts.data else ["What it was trained on is not known."]),
        "",
        *_scores(facts.scores),
        "",
        *_use(),
    ]
    return "\n".join([*parts, ""])


def _known(path: str) -> str:
    """What tells a file from others of its name; a student may be exported elsewhere."""
    if not Path(path).is_file():
        return "not at hand when this was written"
    return f"SHA-256 {fingerprint(path)}…"


def _data(data: TrainingData) -> Sequence[str]:
    files = "; ".join(
        f"{role} `{Path(path).name}` ({_known(path)})" for role, path in data.files.items()
    )
    rows = {
        "data": files,
        "template": f"`{data.template}`",
        "frames": _frames(data),
        "boxes": "pixels of the frame as the model sees it"
        if data.box_units == "pixels"
        else "thousandths of width and height",
    }
    texts = {"": data.system} if isinstance(data.system, str) else data.system
    system = ["", "Its system text:", ""]
    system += [
        f"    {task}{': ' if task else ''}{line}"
        for task, text in texts.items()
        for line in text.splitlines()
    ]
    return [
        "| asked and trained with | |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in rows.items()),
        *(system if data.system else []),
    ]


def _frames(data: TrainingData) -> str:
    frames = data.frames
    rate = f"{frames.fps:g} a second, between {frames.min_frames} and " if frames.fps else ""
    size = f"from {frames.min_pixels} to" if frames.min_pixels else "at most"
    lines = ", each an image behind a line with its time" if data.frames_as == "images" else ""
    return (
        f"{rate}{frames.max_frames} a video, evenly from the first to the last, {size} "
        f"{frames.max_pixels} pixels each{lines}"
    )


def _scores(scores: Mapping[str, float]) -> Sequence[str]:
    known = {name: value for name, value in scores.items() if math.isfinite(value)}
    if not known:
        return ["No scores are known: they were not measured on these weights."]
    tasks = [name.removeprefix("score/") for name in known if name.startswith("score/")]
    columns = [name for name in known if any(f"{name}/{task}" in known for task in tasks)]
    rows = {"overall": columns} | {task: [f"{name}/{task}" for name in columns] for task in tasks}
    shown = {name for names in rows.values() for name in names}
    lines = [_row("held-out records, at the end", columns), "|---" * (1 + len(columns)) + "|"]
    for task, names in rows.items():
        lines.append(_row(task, [f"{known[name]:.4g}" if name in known else "" for name in names]))
    others = [f"`{name}` {value:.4g}" for name, value in known.items() if name not in shown]
    table = lines if columns else []
    return [*table, *(["", f"And: {', '.join(others)}."] if others else [])]


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _use() -> Sequence[str]:
    return [
        "## Load",
        "",
        "```python",
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        'folder = "."  # this one',
        "model = AutoModelForImageTextToText.from_pretrained(folder)",
        "processor = AutoProcessor.from_pretrained(folder)",
        "```",
        "",
        "## Serve",
        "",
        "Any server of Hugging Face folders that knows the architecture, for example",
        "`vllm serve <this folder>`. Ask with the frames, the template and the box units above;",
        "the answer stands in `<answer>…</answer>` behind the reasoning.",
    ]
