"""What a judge is asked and what it says (VISD §3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from lit_vdistill.types import VideoSample


@dataclass(frozen=True, slots=True)
class JudgeCase:
    """One rollout to be diagnosed, with what the student does not know."""

    sample: VideoSample
    """Question, true answer and evidence."""
    text: str
    """The student's completion."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """The verifier's rewards of it, unweighted, by name."""
    maxima: Mapping[str, float] = field(default_factory=dict)
    """What each of them could have been; terms without truth for the task are missing."""


@runtime_checkable
class Judge(Protocol):
    """Writes feedback; a served model is one, the rule judge another."""

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """Feedback for each case; None where none could be had.

        A judge that fails on a case returns None for it: the teacher then sees answer and evidence
        alone, and the failure is counted.
        """
        ...
