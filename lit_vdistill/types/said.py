"""What models have said: a teacher's responses and a student's rollouts."""

from dataclasses import dataclass

from lit_vdistill.types.sample import VideoSample


@dataclass(frozen=True, slots=True)
class TeacherCall:
    """How a served teacher came to say what it said."""

    seed: int
    """Of the call, which may have brought several responses."""
    prompt: str
    """Template and version of what was asked."""
    finish_reason: str
    """`stop`; `length` where the text was cut off."""
    input_tokens: int | None
    """Of the prompt; None where the server does not say."""
    output_tokens: float | None
    """Written: an equal share of the call's."""
    cost: float | None
    """An equal share of the call's; None without prices."""


@dataclass(frozen=True, slots=True)
class TeacherResponse:
    """One sampled answer of the black-box teacher, T_k of R-MSD Eq. 1, with how it was sampled."""

    sample_id: str
    index: int
    """k, from 0: the position in the pool of its sample."""
    text: str
    model: str
    temperature: float
    top_p: float
    call: TeacherCall | None = None
    """None for a response that no endpoint has given."""


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """A teacher response with its quality q_k (R-MSD Eq. 2)."""

    response: TeacherResponse
    quality: float
    """In [0, 1]; 1 for an open-ended task, where no metric is reliable."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion sampled from the policy: the single source of truth about it.

    Text is decoded from `completion_ids` once, for rewards and for people; nothing that is
    trained on is ever tokenised again.
    """

    sample_id: str
    index: int
    """Position in its group, from 0."""
    completion_ids: tuple[int, ...]
    """Sampled ids, the end-of-sequence id included when it was reached."""
    rollout_logprobs: tuple[float, ...]
    """Natural log-probability of each id under the sampling policy at temperature 1."""
    text: str
    """The completion without its end-of-sequence token."""
    is_truncated: bool
    """True when `max_completion_tokens` came before the end of sequence."""
    temperature: float


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The completions of one prompt."""

    sample: VideoSample
    rollouts: tuple[Rollout, ...]
