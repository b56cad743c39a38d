"""The media of a run for its pages: frames as its student saw them, boxes in its units."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lit_vdistill.media.frames import evenly
from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.responses.grammar import ParsedResponse, time_span
from lit_vdistill.tracking.drawn_boxes import nearest_frame, predicted_boxes
from lit_vdistill.tracking.page.film import TRUE, DrawnBox, DrawnSpan, Film, Frame, thumbnail
from lit_vdistill.types import Box, BoxAt, Evidence, MediaType, Medium, Source, Span

_SHOWN = 8
"""Frames of a question at the most: those with boxes, and others evenly between them."""
_UNITS = {"thousandths": 1000, "shares": 1}
"""By `box_units`, how many of them a side of the frame has."""


class FrameSource:
    """The media of a run, as its student saw them."""

    def __init__(self, settings: Mapping[str, Any], where: Path) -> None:
        """Set up by the run's settings.

        Args:
            settings: `frames`, `prompt` and `data_root`.
            where: Their file, for errors.

        Raises:
            ValueError: Names the file and the key that is not as it should be.
        """
        frames, prompt = settings.get("frames"), settings.get("prompt")
        if not isinstance(frames, dict) or not isinstance(prompt, dict):
            raise ValueError(
                f"{where}: 'frames' and 'prompt' must be there, each with its settings"
            )
        root = settings.get("data_root")
        if not isinstance(root, str):
            raise ValueError(f"{where}: 'data_root' must be the folder of the media, got {root!r}")
        known = {field.name for field in fields(FrameConfig)} & set(frames)
        factor = frames.get("factor")
        try:
            config = FrameConfig(**{name: frames[name] for name in known})
            self.reader = MediaReader(root, config, factor=factor or 1, cache_dir=None)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: 'frames' are no plan of frames: {error}") from error
        units = prompt.get("box_units")
        self.config, self.box_units = (root, config, factor), str(units)
        self.knows_size = factor is not None

    def in_units(self, box_units: str) -> "FrameSource":
        """The same media, with boxes in other units."""
        other = copy(self)
        other.box_units = box_units
        return other

    def read(self, media: Source, media_type: MediaType, times_s: Sequence[float]) -> Medium:
        """The frames that show at some times, or the planned ones for none; all of an image.

        Raises:
            MediaError: When they cannot be read.
        """
        kind = "image" if media_type == "image" else "video"
        return self.reader.read(media, kind, at_s=() if kind == "image" else tuple(times_s))

    def scaled(self, box: Box, size: tuple[int, int], shown: tuple[int, int]) -> Box | None:
        """A box of the text on a frame of another size; None where its units are not known.

        Args:
            box: As it was written.
            size: Width and height of the frame as the model saw it.
            shown: The same of the frame on which it is drawn.
        """
        if self.box_units == "pixels" and self.knows_size:
            x, y = (new / old for new, old in zip(shown, size, strict=True))
        elif self.box_units in _UNITS:
            x, y = (side / _UNITS[self.box_units] for side in shown)
        else:
            return None
        return box[0] * x, box[1] * y, box[2] * x, box[3] * y


@dataclass(frozen=True, slots=True)
class Pointed:
    """Where an annotator or a student says that something is."""

    kind: str
    """`annotated`, or a `series`."""
    run: str
    """Who says it, or for an annotation the run whose record it stands in."""
    source: FrameSource
    """Of that run: in its units the boxes are."""
    boxes: Sequence[BoxAt] = ()
    spans: Sequence[Span] = ()


def pointed_by(
    kind: str, run: str, source: FrameSource, parsed: ParsedResponse, evidence: Evidence
) -> Pointed:
    """Where a response points, its answer's boxes at the time of the first true one."""
    span = time_span(parsed.answer)
    boxes = predicted_boxes(parsed, evidence.boxes)
    return Pointed(kind, run, source, boxes, [span] if span else [])


def film_of(
    media: Source, media_type: MediaType, times_s: Sequence[float], pointed: Sequence[Pointed]
) -> tuple[Film, dict[str, int]]:
    """A medium with all that is said about it, drawn on its frames and its time line.

    Args:
        media: Of the question.
        media_type: The same.
        times_s: Of the frames that the prompt had.
        pointed: The first one's source reads the medium.

    Returns:
        The film, and by run how many boxes are not drawn, as their units are not known.

    Raises:
        MediaError: When the medium cannot be read.
    """
    source = pointed[0].source
    times = _chosen(times_s, [box for one in pointed for box in one.boxes])
    medium = source.read(media, media_type, times)
    shown = (medium.frames.shape[2], medium.frames.shape[1])
    drawn: list[list[DrawnBox]] = [[] for _ in medium.times_s]
    undrawn: dict[str, int] = {}
    for one in pointed:
        size = shown
        if one.boxes and one.source.config != source.config and one.source.box_units == "pixels":
            frame = one.source.read(media, media_type, times_s[:1] or (0.0,)).frames[0]
            size = (frame.shape[1], frame.shape[0])
        for box in one.boxes:
            corners = one.source.scaled(box.box, size, shown)
            if corners is None:
                undrawn[one.run] = undrawn.get(one.run, 0) + 1
                continue
            place = nearest_frame(box, medium.times_s)
            drawn[place].append(DrawnBox(one.kind, box.name, corners))
    is_video = medium.kind == "video"
    frames = tuple(
        Frame(thumbnail(pixels), time_s if is_video else None, tuple(found))
        for pixels, time_s, found in zip(medium.frames, medium.times_s, drawn, strict=True)
    )
    spans = tuple(
        DrawnSpan(one.kind, "true" if one.kind == TRUE else one.run, span)
        for one in pointed
        for span in one.spans
    )
    return Film(frames, medium.length_s if is_video else 0.0, spans), undrawn


def _chosen(times_s: Sequence[float], boxes: Sequence[BoxAt]) -> list[float]:
    """Times of the frames that are shown, in order: of the prompt's, or of the start if none."""
    if not times_s:
        return [0.0]
    wanted = {nearest_frame(box, times_s) for box in boxes}
    places = set(evenly(sorted(wanted), _SHOWN))
    others = [place for place in range(len(times_s)) if place not in places]
    places |= set(evenly(others, _SHOWN - len(places)) if len(places) < _SHOWN else ())
    return [times_s[place] for place in sorted(places)]
