"""A control: feedback that is wrong."""

from collections.abc import Sequence
from dataclasses import replace

from lit_vdistill.judge.judge import Judge, JudgeCase
from lit_vdistill.types import VideoSample


class WrongJudge:
    """Asks a judge about each case with the scores turned round and the truth of another question.

    What was right is called wrong and corrected to what is not true, and what was wrong is called
    right. A method that reads feedback must lose by it; one that does not loses nothing. The truth
    comes from the next case of the call that has the same task and another answer, in a run from
    the same piece; where there is none the scores alone are turned round.
    """

    def __init__(self, judge: Judge) -> None:
        """Ask nobody yet.

        Args:
            judge: Who is misled.
        """
        self.judge = judge

    @property
    def identity(self) -> str:
        """That of the judge who is misled."""
        return f"misled: {self.judge.identity}"

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """See `Judge`."""
        samples = [case.sample for case in cases]
        return self.judge.diagnose(
            [
                replace(
                    case,
                    sample=_misled(case.sample, [*samples[place + 1 :], *samples[:place]]),
                    parts={
                        name: case.maxima[name] - share if name in case.maxima else share
                        for name, share in case.parts.items()
                    },
                )
                for place, case in enumerate(cases)
            ]
        )


def _misled(sample: VideoSample, others: Sequence[VideoSample]) -> VideoSample:
    """A question with the truth of the first other one that could be mistaken for its own."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(sample.options)]
    for other in others:
        is_other = (other.answer, other.evidence) != (sample.answer, sample.evidence)
        is_option = not letters or (other.answer in letters and other.answer != sample.answer)
        if other.task == sample.task and is_other and is_option:
            return replace(sample, answer=other.answer, evidence=other.evidence)
    return sample
