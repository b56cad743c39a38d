"""A control: feedback that is about another rollout."""

import random
from collections.abc import Sequence

from lit_vdistill.judge.judge import Judge, JudgeCase


class ShuffledJudge:
    """Asks a judge, and hands each case what was said about another one of the same call.

    What token credit gains from feedback that it does not lose under this judge is not owed to what
    feedback says. What it says depends on the whole call, in a run on the piece: a `CachedJudge`
    belongs inside of it, and a step that is cut otherwise is dealt out otherwise.
    """

    def __init__(self, judge: Judge, seed: int = 0) -> None:
        """Shuffle nothing yet.

        Args:
            judge: Who is asked.
            seed: Of the order; equal calls are shuffled alike.
        """
        self.judge, self.seed = judge, seed

    @property
    def identity(self) -> str:
        """That of the judge who is asked, and the seed."""
        return f"shuffled {self.seed}: {self.judge.identity}"

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """See `Judge`; None where there is no other case."""
        if len(cases) == 1:
            return [None]
        answers = self.judge.diagnose(cases)
        order = list(range(len(cases)))
        rng = random.Random(f"{self.seed}/{[(case.sample.id, case.text) for case in cases]}")
        # Sattolo's shuffle: one cycle through all, so nobody keeps what is about itself.
        for last in range(len(order) - 1, 0, -1):
            other = rng.randrange(last)
            order[last], order[other] = order[other], order[last]
        return [answers[place] for place in order]
