"""Tasks that are answered in free words, which no metric can verify (R-MSD §3.3.2)."""

from lit_vdistill.responses.writing import GROUND
from lit_vdistill.types import Task

_IN_WORDS = GROUND + " Answer in plain words, without tags."


class SpatioTemporalQa(Task):
    """A question about objects at times, which the reasoning is to name with their boxes."""

    name = "spatio_temporal_qa"
    instruction = _IN_WORDS
    judged_by = (
        "the meaning of the answer; then whether time, object and place in the reasoning are those "
        "of the hidden evidence"
    )
    is_closed_ended = False
    reasons_at_moments = True


class OpenEnded(Task):
    """Any other question."""

    name = "open_ended"
    instruction = _IN_WORDS
    is_closed_ended = False
