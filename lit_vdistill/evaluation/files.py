"""Which media of a benchmark are there."""

from collections.abc import Sequence
from pathlib import Path

from lit_vdistill.types import Clip, FrameFiles, Source, VideoSample


def missing_media(samples: Sequence[VideoSample], root: Path) -> list[Source]:
    """Media that questions are about and that are not below a root, each once."""
    found = dict.fromkeys(sample.media for sample in samples if sample.media is not None)
    return [media for media in found if not all((root / file).is_file() for file in _files(media))]


def _files(media: Source) -> tuple[str, ...]:
    if isinstance(media, Clip):
        return (media.file,)
    return media.files if isinstance(media, FrameFiles) else (media,)
