"""What a privileged teacher sees of a video, where it sees more than the student."""

from dataclasses import dataclass, replace
from typing import Literal

from lit_vdistill.media.video import FrameConfig
from lit_vdistill.types import Span, VideoSample

_SHORTEST_S = 2.0
"""A shorter clip may hold no frame of a video at few frames a second."""


@dataclass(frozen=True)
class ViewConfig:
    """A privileged view: the evidence clip, more frames a second, larger pixels.

    Neither paper has it: VISD's teacher is told more and sees what the student sees.
    """

    span: Literal["video", "evidence"] = "evidence"
    """The whole `video`, or the `evidence` alone: annotated segments and moments, at their times in
    the video; a sample without any is seen as the student sees it (`teacher/seen_plain`)."""
    fps: float | None = None
    """Frames a second; null as `data.frames`."""
    max_frames: int | None = None
    """Frames at the most; null as `data.frames`."""
    max_pixels: int | None = None
    """Largest width × height a frame; null as `data.frames`."""

    def frames(self, student: FrameConfig) -> FrameConfig:
        """Which frames are read and how large, given what the student sees."""
        values = {"fps": self.fps, "max_frames": self.max_frames, "max_pixels": self.max_pixels}
        return replace(student, **{name: v for name, v in values.items() if v is not None})

    def window(self, sample: VideoSample) -> Span | None:
        """The part of a sample's video that is seen; None = all of it.

        Raises:
            NoEvidence: When nothing in the video is annotated.
        """
        if self.span == "video":
            return None
        ends = [time_s for span in sample.evidence.spans for time_s in span]
        ends += sample.evidence.moments
        if not ends:
            raise NoEvidence
        start, end = min(ends), max(ends)
        missing = max(0.0, _SHORTEST_S - (end - start)) / 2
        return max(0.0, start - missing), end + missing


class NoEvidence(Exception):
    """A sample without an annotated part."""
