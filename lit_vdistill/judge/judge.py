"""What a judge is asked and what it says (VISD §3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard, runtime_checkable

from lit_vdistill import jsonl
from lit_vdistill.rewards import Reward
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

    @classmethod
    def scored(
        cls, sample: VideoSample, text: str, rewards: Sequence[Reward], parts: Mapping[str, float]
    ) -> "JudgeCase":
        """A case whose maxima follow from what the rewards can compare with."""
        maxima = {reward.name: 1.0 for reward in rewards if reward.applies_to(sample)}
        return cls(sample, text, parts, maxima)


@runtime_checkable
class Judge(Protocol):
    """Writes feedback; a served model is one, the rule judge another."""

    @property
    def identity(self) -> str:
        """What answers depend on besides the case, e.g. model and version of the prompt."""
        ...

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """Feedback for each case; None where none could be had.

        A judge that fails on a case returns None for it: the teacher then sees answer and evidence
        alone, and the failure is counted.
        """
        ...


def is_feedback(found: Any) -> TypeGuard[str]:
    """Whether what a judge has said can be told to a teacher: a text, not empty, in UTF-8."""
    return isinstance(found, str) and bool(found.strip()) and jsonl.has_utf8(found)
