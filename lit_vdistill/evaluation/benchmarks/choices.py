"""Multiple choice: what every benchmark of letters has in common."""

from collections.abc import Sequence

from lit_vdistill.evaluation.benchmark import Answered, Benchmark, Verdict
from lit_vdistill.evaluation.benchmarks.answers import NO_LETTER, read_choice


class ChoiceBenchmark(Benchmark):
    """Accuracy; an answer whose letter cannot be read is wrong, and stays in the denominator."""

    headline = right = "accuracy"

    def verdicts(self, answered: Sequence[Answered]) -> list[Verdict]:
        """See `Benchmark`."""
        return [choice_verdict(one) for one in answered]


def choice_verdict(one: Answered) -> Verdict:
    """Whether the letter of an answer is the true one."""
    letter = read_choice(one.text, one.sample.options)
    right = float(letter == one.sample.answer)
    return Verdict({"accuracy": right}, NO_LETTER if letter is None else None)
