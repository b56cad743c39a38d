"""The frozen records that cross folders, and the words used for tensor axes.

Axis names in jaxtyping signatures: `batch` rows of a tensor, `seq` token positions, `vocab`,
`group` completions of one prompt, `frames`, `hidden`. Times are seconds from the start of the
video; boxes are `(x1, y1, x2, y2)`.
"""

from lit_vdistill.types.media import Clip, FrameFiles, Medium, Source
from lit_vdistill.types.said import (
    Rollout,
    RolloutGroup,
    ScoredResponse,
    TeacherCall,
    TeacherResponse,
)
from lit_vdistill.types.sample import (
    Box,
    BoxAt,
    Envelope,
    Evidence,
    Facts,
    Mark,
    MediaType,
    Span,
    Task,
    Verdict,
    VideoSample,
)

__all__ = [
    "Box",
    "BoxAt",
    "Clip",
    "Envelope",
    "Evidence",
    "Facts",
    "FrameFiles",
    "Mark",
    "MediaType",
    "Medium",
    "Rollout",
    "RolloutGroup",
    "ScoredResponse",
    "Source",
    "Span",
    "Task",
    "TeacherCall",
    "TeacherResponse",
    "Verdict",
    "VideoSample",
]
