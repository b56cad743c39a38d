"""Questions with what each student answered, drawn on their frames (as VISD Figures 9-17)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lit_vdistill.evaluation.run_files import Answer, Run
from lit_vdistill.media.decoder_process import MediaError
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.tracking.frame_source import FrameSource, Pointed, film_of, pointed_by
from lit_vdistill.tracking.page.film import TRUE, Film, series


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
    sources = {run.name: FrameSource(run.settings, run.folder / "run.json") for run in runs}
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
    asked = first.answers[name]
    pointed = [
        Pointed(TRUE, first.name, sources[first.name], asked.evidence.boxes, asked.evidence.spans)
    ]
    for place, run in having:
        answer = run.answers[name]
        parsed = parse_response(answer.response, answer.envelope)
        pointed.append(
            pointed_by(series(place), run.name, sources[run.name], parsed, answer.evidence)
        )
    assert asked.media is not None
    film, undrawn = film_of(asked.media, asked.media_type, asked.frame_times_s, pointed)
    notes += [
        f"{count} boxes of {run} are not drawn: its run.json does not say prompt.box_units, or for "
        "pixels frames.factor."
        for run, count in undrawn.items()
    ]
    return film
