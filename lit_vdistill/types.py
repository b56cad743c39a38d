"""The frozen records that cross folders, and the words used for tensor axes.

Axis names in jaxtyping signatures: `batch` rows of a tensor, `seq` token positions, `vocab`,
`group` completions of one prompt, `frames`, `hidden`. Times are seconds from the start of the
video; boxes are `(x1, y1, x2, y2)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

Span = tuple[float, float]
Box = tuple[float, float, float, float]
MediaType = Literal["video", "image", "text"]
Verdict = Literal["right", "wrong", "unclear"]


class Task(StrEnum):
    """What a question asks for; it selects the prompt, the answer syntax and the metric."""

    MCQ = "mcq"
    BINARY = "binary"
    NUMERICAL = "numerical"
    OCR = "ocr"
    TEMPORAL_GROUNDING = "temporal_grounding"
    TEMPORAL_MCQ = "temporal_mcq"
    SPATIAL_GROUNDING = "spatial_grounding"
    SPATIO_TEMPORAL_QA = "spatio_temporal_qa"
    OPEN_ENDED = "open_ended"

    @property
    def is_closed_ended(self) -> bool:
        """Whether an answer can be verified against an annotation (R-MSD §3.3, task taxonomy)."""
        return self not in (Task.SPATIO_TEMPORAL_QA, Task.OPEN_ENDED)


@dataclass(frozen=True, slots=True)
class BoxAt:
    """An annotated object, e.g. `BoxAt(3.0, "red square", (8, 4, 20, 16))`."""

    time_s: float | None
    """Seconds from the start of the video; None for an image."""
    name: str
    """What the box encloses."""
    box: Box
    """In a record on disk a share of width and height; in a loaded item the model's units."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an annotator points at: `Evidence(spans=((2.0, 5.0),), boxes=(...))`."""

    spans: tuple[Span, ...] = ()
    """Annotated segments in seconds; the first is the answer of a temporal question."""
    boxes: tuple[BoxAt, ...] = ()
    """Annotated boxes; for spatial grounding the first is the answer."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of a video in words: `Facts(({"colour": "red"},), {"colour": ("red", "blue")})`.

    What a right answer to an open question must state, and what its reasoning may rest on.
    """

    things: tuple[Mapping[str, str], ...] = ()
    """The facts of each thing that a question is about, by kind."""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By kind, all words for it, right and wrong ones: two words of a kind exclude each other."""
    asked: tuple[str, ...] = ()
    """Kinds that a right answer must state of every thing; none for a closed question."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a longer video: `Clip("film.mp4", 600.0, 630.0)`. Its times begin with 0."""

    file: str
    """Path below `data.media_root`."""
    start_s: float
    """Seconds from the start of the file."""
    end_s: float

    def __str__(self) -> str:
        """For reports."""
        return f"{self.file}, {self.start_s} s to {self.end_s} s"


@dataclass(frozen=True, slots=True)
class FrameFiles:
    """A video whose frames were sampled elsewhere: `FrameFiles(("a.jpg", "b.jpg"), (0.0, 1.5))`."""

    files: tuple[str, ...]
    """Images below `data.media_root`, in the order of their times."""
    times_s: tuple[float, ...]
    """Seconds from the start of the video, one a file."""

    def __str__(self) -> str:
        """For reports."""
        return f"{self.files[0]} … {self.files[-1]}, {len(self.files)} frames"


Source = str | Clip | FrameFiles
"""Where a medium is; a text is the path of a file below `data.media_root`. Two samples have the
same medium where these are equal."""


@dataclass(frozen=True, slots=True)
class VideoSample:
    """One question about one medium: `VideoSample("v1", Task.MCQ, "What falls?", "A", …)`."""

    id: str
    """Unique in its file; joins the teacher pool."""
    task: Task
    question: str
    """The bare question, without options and without format instructions."""
    answer: str
    """The true answer: a letter, a number, a word or a sentence."""
    media: Source | None = None
    """None for a text-only sample."""
    media_type: MediaType = "video"
    options: tuple[str, ...] = ()
    """Texts of the options without letters, in the order A, B, C …"""
    evidence: Evidence = field(default_factory=Evidence)
    facts: Facts = field(default_factory=Facts)
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Whatever a record says beside; nothing is trained on it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A part of a response, with what is known about it."""

    start: int
    """Its first character."""
    end: int
    """The one behind its last."""
    kind: str
    """`time`, `coordinate`, `letter`, `count`, `text`, `yes_no`, or one of the sample's facts."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Medium:
    """Frames as the network sees them, with their true times."""

    kind: Literal["video", "image"]
    frames: UInt8[np.ndarray, "frames height width 3"]
    times_s: tuple[float, ...]
    """Seconds from the start of the video, one a frame, read from the stream."""


@dataclass(frozen=True, slots=True)
class TeacherResponse:
    """One sampled answer of the black-box teacher, T_k of R-MSD Eq. 1, with how it was sampled."""

    sample_id: str
    index: int
    """k, from 0: the position in the pool of its sample."""
    text: str
    model: str
    temperature: float
    top_p: float


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """A teacher response with its quality q_k (R-MSD Eq. 2)."""

    response: TeacherResponse
    quality: float
    """In [0, 1]; 1 for an open-ended task, where no metric is reliable."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion sampled from the policy: the single source of truth about it.

    Text is decoded from `completion_ids` once, for rewards and for people; nothing that is
    trained on is ever tokenised again.
    """

    sample_id: str
    index: int
    """Position in its group, from 0."""
    completion_ids: tuple[int, ...]
    """Sampled ids, the end-of-sequence id included when it was reached."""
    rollout_logprobs: tuple[float, ...]
    """Natural log-probability of each id under the sampling policy at temperature 1."""
    text: str
    """The completion without its end-of-sequence token."""
    is_truncated: bool
    """True when `max_completion_tokens` came before the end of sequence."""
    temperature: float


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The completions of one prompt."""

    sample: VideoSample
    rollouts: tuple[Rollout, ...]
