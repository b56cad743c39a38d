"""Tasks with one right answer, in a word or a number."""


def epsilon_accuracy(predicted: float, truth: float, epsilon: float) -> float:
    """1 when a number is within a relative tolerance of the truth, else 0 (R-MSD §3.3.1).

    The paper names ε-accuracy without its ε; the tolerance is `epsilon * max(1, |truth|)`.
    """
    return float(abs(predicted - truth) <= epsilon * max(1.0, abs(truth)))
