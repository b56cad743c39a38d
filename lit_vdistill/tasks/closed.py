"""Tasks with one right answer, in a letter, a word, a number or the text that is shown."""

import re
from collections.abc import Iterable

from lit_vdistill.responses import grammar
from lit_vdistill.responses.writing import GROUND
from lit_vdistill.tasks.marks import by_word, letters, single
from lit_vdistill.types import Mark, Task, VideoSample

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_YES_NO = re.compile(r"\b(?:yes|no)\b", re.IGNORECASE)


class Mcq(Task):
    """A question with options; the truth is a letter."""

    name = "mcq"
    instruction = GROUND + " Answer with the letter of the option only."
    judged_by = "the letter; no place or time is asked for, so do not miss them"

    def check(self, sample: VideoSample) -> None:
        """The letter of an option."""
        check_letter(sample)

    def has_syntax(self, answer: str) -> bool:
        """A letter, as in `B`, `B.`, `(B)` or `[B]`."""
        return grammar.option_letter(answer) is not None

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """Exact match."""
        return float(grammar.option_letter(answer) == sample.answer)

    def answer_marks(
        self, text: str, place: tuple[int, int], sample: VideoSample, epsilon: float
    ) -> Iterable[Mark]:
        """The letter."""
        return letters(text, place, sample.answer)


class Binary(Task):
    """A question that is answered with yes or no."""

    name = "binary"
    instruction = GROUND + " Answer with yes or no only."
    judged_by = "yes or no; no place or time is asked for, so do not miss them"

    def check(self, sample: VideoSample) -> None:
        """Yes or no, in any case."""
        if sample.answer.lower() not in ("yes", "no"):
            raise ValueError(f"'answer' of a binary task must be yes or no, got '{sample.answer}'")

    def has_syntax(self, answer: str) -> bool:
        """Yes or no and nothing else."""
        return grammar.yes_or_no(answer) is not None

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """Exact match."""
        return float(grammar.yes_or_no(answer) == sample.answer.lower())

    def answer_marks(
        self, text: str, place: tuple[int, int], sample: VideoSample, epsilon: float
    ) -> Iterable[Mark]:
        """Yes or no."""
        truth = sample.answer.lower()
        return single(_YES_NO, text, place, "yes_no", lambda said: said.lower() == truth)


class Numerical(Task):
    """A question that is answered with a number."""

    name = "numerical"
    instruction = GROUND + " Answer with a number only."
    judged_by = "the number; say by how much it is off"

    def check(self, sample: VideoSample) -> None:
        """A plain number."""
        if grammar.number(sample.answer) is None:
            raise ValueError(
                f"'answer' of a numerical task must be a plain number, got '{sample.answer}'"
            )

    def has_syntax(self, answer: str) -> bool:
        """A plain number."""
        return grammar.number(answer) is not None

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """ε-accuracy."""
        said = grammar.number(answer)
        return 0.0 if said is None else epsilon_accuracy(said, float(sample.answer), epsilon)

    def answer_marks(
        self, text: str, place: tuple[int, int], sample: VideoSample, epsilon: float
    ) -> Iterable[Mark]:
        """The number."""
        truth = float(sample.answer)
        return single(
            _NUMBER,
            text,
            place,
            "count",
            lambda said: bool(epsilon_accuracy(float(said), truth, epsilon)),
        )


class Ocr(Task):
    """A question about text that is shown, which is the answer."""

    name = "ocr"
    instruction = GROUND + " Answer with the text that is shown, and nothing else."
    judged_by = "the text, character by character"
    is_read_by_word = True

    def quality(self, answer: str, sample: VideoSample, epsilon: float) -> float:
        """1 less the word error rate, 0 at the least."""
        # Tools and help read tasks, and start without torch.
        from torchmetrics.functional.text import word_error_rate

        return max(0.0, 1.0 - float(word_error_rate([answer], [sample.answer])))

    def answer_marks(
        self, text: str, place: tuple[int, int], sample: VideoSample, epsilon: float
    ) -> Iterable[Mark]:
        """Word by word."""
        return by_word(text, place, sample.answer)


def check_letter(sample: VideoSample) -> None:
    """Whether the answer is the letter of an option.

    Raises:
        ValueError: Says which letters there are.
    """
    known = [chr(ord("A") + i) for i in range(len(sample.options))]
    if sample.answer not in known:
        raise ValueError(
            f"'answer' must be the letter of one of the options {known}, got '{sample.answer}'"
        )


def epsilon_accuracy(predicted: float, truth: float, epsilon: float) -> float:
    """1 when a number is within a relative tolerance of the truth, else 0 (R-MSD §3.3.1).

    The paper names ε-accuracy without its ε; the tolerance is `epsilon * max(1, |truth|)`.
    """
    return float(abs(predicted - truth) <= epsilon * max(1.0, abs(truth)))
