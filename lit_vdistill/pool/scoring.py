"""Pools of questions that are not loaded for training: qualities without a student's processor."""

from collections.abc import Sequence
from dataclasses import dataclass

from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.pool.quality import score_responses
from lit_vdistill.pool.text_units import edges_of, responses_in_units, sample_in_units
from lit_vdistill.responses.writing import BoxUnits
from lit_vdistill.types import ScoredResponse, TeacherResponse, VideoSample


@dataclass(frozen=True)
class BoxConfig:
    """In what units a pool's texts write boxes."""

    units: BoxUnits = "thousandths"
    """`thousandths` of width and height, or `pixels` of the frames that the student sees."""
    media_root: str | None = None
    """For `pixels`: media paths are below it."""
    frames: FrameConfig = FrameConfig()
    """For `pixels`: how large frames are, as `data.frames`."""
    frame_factor: int = 32
    """For `pixels`: sides are multiples of it, as the student's."""

    def __post_init__(self) -> None:
        """Refuse pixels of nothing.

        Raises:
            ValueError: Names the key.
        """
        if self.units == "pixels" and self.media_root is None:
            raise ValueError("boxes.units pixels needs boxes.media_root: a frame's size decides")


class PoolScorer:
    """Qualities q_k (R-MSD Eq. 2) of responses to records."""

    def __init__(self, boxes: BoxConfig, cache_dir: str | None = None) -> None:
        """Nothing is read yet.

        Args:
            boxes: Units of boxes in text.
            cache_dir: Where decoded frames are kept; None keeps nothing.
        """
        self.boxes, self.reader = boxes, None
        if boxes.media_root is not None:
            self.reader = MediaReader(
                boxes.media_root, boxes.frames, factor=boxes.frame_factor, cache_dir=cache_dir
            )

    def scored(
        self, sample: VideoSample, pool: Sequence[TeacherResponse]
    ) -> tuple[ScoredResponse, ...]:
        """The pool of a sample with its qualities.

        Raises:
            MediaError: When a box in pixels needs the size of a medium that cannot be read.
        """
        return score_responses(*self.in_units(sample, pool))

    def in_units(
        self, sample: VideoSample, pool: Sequence[TeacherResponse]
    ) -> tuple[VideoSample, tuple[TeacherResponse, ...]]:
        """A record with its boxes as the pool's texts have them, and those texts.

        Raises:
            MediaError: As `scored`.
        """
        x, y = self._edges(sample)
        return sample_in_units(sample, x, y), responses_in_units(pool, x, y)

    def _edges(self, sample: VideoSample) -> tuple[float, float]:
        """What stands for the right and the lower edge in text."""
        if self.boxes.units == "pixels" and sample.media is not None and sample.evidence.boxes:
            assert self.reader is not None
            medium = self.reader.read(sample.media, sample.media_type)
            return edges_of(medium, "pixels") or (1.0, 1.0)
        return 1000.0, 1000.0
