"""Questions with what each student answered, drawn on their frames (as VISD Figures 9-17)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from lit_vdistill.evaluation.run_files import Answer, Run
from lit_vdistill.media.decoder_process import MediaError
from lit_vdistill.media.frames import evenly
from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.responses.grammar import parse_response, time_span
from lit_vdistill.tracking.drawn_boxes import nearest_frame, predicted_boxes
from lit_vdistill.tracking.page.film import (
    TRUE,
    DrawnBox,
    DrawnSpan,
    Film,
    Frame,
    series,
    thumbnail,
)
from lit_vdistill.types import Box, BoxAt, Medium

_SHOWN = 8
"""Frames of a question at the most: those with boxes, and others evenly between them."""


@dataclass(frozen=True, slots=True)
class SaidView:
    """What one student answered."""

    run: str
    kind: str
    """Its colour: a `series`."""
    answer: str
    """Inside of the answer block; the whole response where it has none."""
    think: str
    response: str
    score: str
    is_wrong: bool
    """Whether it is worth nothing."""
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemView:
    """A question, its truth, its frames and all answers to it."""

    asked: Answer
    """Of the first run that has it: question, options, truth and prompt."""
    medium: str
    film: Film | None
    notes: tuple[str, ...]
    """What cannot be shown, and why."""
    said: tuple[SaidView, ...]

    @property
    def options(self) -> list[tuple[str, bool]]:
        """The options with their letters; whether one is the true one."""
        named = [(chr(ord("A") + i), text) for i, text in enumerate(self.asked.options)]
        return [(f"{letter}. {text}", letter == self.asked.answer) for letter, text in named]

    @property
    def has_true_option(self) -> bool:
        """Whether the truth is seen among the options."""
        return any(is_true for _, is_true in self.options)


class FrameSource:
    """The media of a run, as its student saw them."""

    def __init__(self, run: Run) -> None:
        """Set up by the run's settings.

        Raises:
            ValueError: Names the file and the key that is not as it should be.
        """
        where = run.folder / "run.json"
        frames, prompt = run.settings.get("frames"), run.settings.get("prompt")
        if not isinstance(frames, dict) or not isinstance(prompt, dict):
            raise ValueError(
                f"{where}: 'frames' and 'prompt' must be there, each with its settings"
            )
        root = run.settings.get("data_root")
        if not isinstance(root, str):
            raise ValueError(f"{where}: 'data_root' must be the folder of the media, got {root!r}")
        known = {field.name for field in fields(FrameConfig)} & set(frames)
        factor = frames.get("factor")
        try:
            config = FrameConfig(**{name: frames[name] for name in known})
            self.reader = MediaReader(root, config, factor=factor or 1, cache_dir=None)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: 'frames' are no plan of frames: {error}") from error
        self.config, self.box_units = (root, config, factor), prompt.get("box_units")
        self.knows_size = factor is not None

    def read(self, asked: Answer, times_s: Sequence[float]) -> Medium:
        """The frames that show at some times; all of an image.

        Raises:
            MediaError: When they cannot be read.
        """
        assert asked.media is not None
        kind = "image" if asked.media_type == "image" else "video"
        return self.reader.read(asked.media, kind, at_s=() if kind == "image" else tuple(times_s))

    def scaled(self, box: Box, size: tuple[int, int], shown: tuple[int, int]) -> Box | None:
        """A box of the text on a frame of another size; None where its units are not known.

        Args:
            box: As it was written.
            size: Width and height of the frame as the model saw it.
            shown: The same of the frame on which it is drawn.
        """
        if self.box_units == "pixels" and self.knows_size:
            x, y = (new / old for new, old in zip(shown, size, strict=True))
        elif self.box_units == "thousandths":
            x, y = (side / 1000 for side in shown)
        else:
            return None
        return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def item_score(answer: Answer, headline: str) -> float | None:
    """What an answer is worth: by the headline score, else by the mean of those it has."""
    if headline in answer.scores:
        return answer.scores[headline]
    return sum(answer.scores.values()) / len(answer.scores) if answer.scores else None


def in_order(runs: Sequence[Run]) -> list[str]:
    """Ids: those on which the runs differ most first, then the worst answered; ungraded last."""
    ids = {name: place for run in runs for place, name in enumerate(run.answers)}

    def rank(name: str) -> tuple[float, float, int]:
        answers = [run.answers[name] for run in runs if name in run.answers]
        scores = [item_score(answer, runs[0].headline) for answer in answers]
        known = [score for score in scores if score is not None]
        if not known:
            return 0.0, 2.0, ids[name]
        return min(known) - max(known), sum(known) / len(known), ids[name]

    return sorted(ids, key=rank)


def item_views(runs: Sequence[Run], count: int) -> list[ItemView]:
    """The first questions in order, with their frames.

    Args:
        runs: Of one benchmark; answers are joined by id.
        count: Questions at the most.

    Raises:
        ValueError: When settings do not say how frames were read.
    """
    sources = {run.name: FrameSource(run) for run in runs}
    return [_item(name, runs, sources) for name in in_order(runs)[:count]]


def _item(name: str, runs: Sequence[Run], sources: Mapping[str, FrameSource]) -> ItemView:
    having = [run for run in runs if name in run.answers]
    asked, notes = having[0].answers[name], []
    film = None
    if asked.media is not None:
        try:
            film = _film(name, runs, sources, notes)
        except MediaError as error:
            notes.append(f"The medium cannot be read here, so that no frame is shown: {error}")
    said = [
        _said(run, series(place), run.answers[name])
        for place, run in enumerate(runs)
        if run in having
    ]
    notes += [f"{run.name} has no line about this question." for run in runs if run not in having]
    medium = "no medium" if asked.media is None else str(asked.media)
    return ItemView(asked, medium, film, tuple(notes), tuple(said))


def _said(run: Run, kind: str, answer: Answer) -> SaidView:
    parsed, score = (
        parse_response(answer.response, answer.envelope),
        item_score(answer, run.headline),
    )
    # A medium that cannot be read has no response, whose format is then no second problem.
    found = answer.problem or (f"format: {parsed.problem}" if parsed.problem else None)
    problems = [found] if found else []
    if answer.is_truncated and answer.problem is None:
        problems.append("cut off at the most tokens")
    return SaidView(
        run=run.name,
        kind=kind,
        answer=parsed.answer or answer.response or "no response",
        think=parsed.think,
        response=answer.response,
        score="not graded" if score is None else f"{score:.2f}",
        is_wrong=score == 0,
        problems=tuple(problems),
    )


def _film(
    name: str, runs: Sequence[Run], sources: Mapping[str, FrameSource], notes: list[str]
) -> Film:
    """Frames of the first run that has the question, with the boxes and segments of all.

    Raises:
        MediaError: When the medium cannot be read.
    """
    having = [(place, run) for place, run in enumerate(runs) if name in run.answers]
    first = having[0][1]
    asked, source = first.answers[name], sources[first.name]
    boxes = [(TRUE, first, box) for box in asked.evidence.boxes]
    spans = [DrawnSpan(TRUE, "true", span) for span in asked.evidence.spans]
    for place, run in having:
        answer = run.answers[name]
        parsed = parse_response(answer.response, answer.envelope)
        predicted = predicted_boxes(parsed, answer.evidence.boxes)
        boxes += [(series(place), run, box) for box in predicted]
        if span := time_span(parsed.answer):
            spans.append(DrawnSpan(series(place), run.name, span))
    times = _chosen(asked.frame_times_s, [box for _, _, box in boxes])
    medium = source.read(asked, times)
    shown = (medium.frames.shape[2], medium.frames.shape[1])
    sizes = {run.name: _size(sources[run.name], source, asked, shown) for _, run in having}
    drawn: list[list[DrawnBox]] = [[] for _ in medium.times_s]
    unknown: dict[str, int] = {}
    for kind, run, box in boxes:
        corners = sources[run.name].scaled(box.box, sizes[run.name], shown)
        if corners is None:
            unknown[run.name] = unknown.get(run.name, 0) + 1
            continue
        drawn[nearest_frame(box, medium.times_s)].append(DrawnBox(kind, box.name, corners))
    notes += [
        f"{count} boxes of {run} are not drawn: its run.json does not say prompt.box_units, or for "
        "pixels frames.factor."
        for run, count in unknown.items()
    ]
    is_video = medium.kind == "video"
    frames = tuple(
        Frame(thumbnail(pixels), time_s if is_video else None, tuple(found))
        for pixels, time_s, found in zip(medium.frames, medium.times_s, drawn, strict=True)
    )
    return Film(frames, medium.length_s if is_video else 0.0, tuple(spans))


def _size(
    source: FrameSource, first: FrameSource, asked: Answer, shown: tuple[int, int]
) -> tuple[int, int]:
    """Width and height of the frames as a run's student saw them."""
    if source.config == first.config or source.box_units != "pixels":
        return shown
    frame = source.read(asked, asked.frame_times_s[:1] or (0.0,)).frames[0]
    return frame.shape[1], frame.shape[0]


def _chosen(times_s: Sequence[float], boxes: Sequence[BoxAt]) -> list[float]:
    """Times of the frames that are shown, in order: of the prompt's, or of the start if none."""
    if not times_s:
        return [0.0]
    wanted = {nearest_frame(box, times_s) for box in boxes}
    places = set(evenly(sorted(wanted), _SHOWN))
    others = [place for place in range(len(times_s)) if place not in places]
    places |= set(evenly(others, _SHOWN - len(places)) if len(places) < _SHOWN else ())
    return [times_s[place] for place in sorted(places)]
