"""Averages over a whole optimizer step: its pieces and all processes."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from lit_vdistill import processes

_Value = Tensor | float | int


class StepMetrics:
    """Sums with what divides them, by name; divided once, when the step is whole.

    A mean of means would weigh a short piece as much as a long one. Tensors stay where they are
    until then: adding waits for no device.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._sums: dict[str, list[_Value]] = {}
        self._largest: dict[str, Tensor] = {}
        self.not_finite: list[str] = []
        """Names whose sums over all processes are NaN or infinite; known once they are reduced."""

    def add(self, name: str, total: _Value, count: _Value) -> None:
        """Add a sum and how much it is of.

        Args:
            name: Key in the logs.
            total: A sum over what was found here.
            count: What all such sums together are divided by, as far as it is here.
        """
        self._add(name, [total, count])

    def add_mean(self, name: str, values: Tensor) -> None:
        """Add values that count alike; there may be none."""
        self.add(name, values.detach().double().sum(), float(values.numel()))

    def add_sum(self, name: str, total: _Value) -> None:
        """Add to a sum that is not divided, e.g. shares of a loss."""
        self._add(name, [total])

    def add_largest(self, name: str, values: Tensor) -> None:
        """Keep the largest of all values that are added; there may be none."""
        if values.numel():
            found = values.detach().double().max()
            known = self._largest.get(name, found)
            self._largest[name] = torch.maximum(known, found)

    def add_correlation(self, name: str, x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> None:
        """Add a group's pairs to a correlation coefficient within groups.

        Both sides are centred first: what a group has in common says nothing about its members.
        The coefficient is NaN where one side varies within no group.
        """
        x, y = (_centred(values.detach().double()) for values in (x, y))
        terms = (x, y, x * x, y * y, x * y)
        sums: list[_Value] = [float(x.numel()), *(term.sum() for term in terms)]
        self._add(name, sums)

    def reduced(self) -> dict[str, float]:
        """The values over all processes, on each of them; NaN where nothing was counted.

        All processes must call it, whatever they have added.
        """
        whole: dict[str, list[float]] = {}
        largest = {name: float(value) for name, value in self._largest.items()}
        for part, most in processes.gather((self._numbers(), largest)):
            for name, sums in part.items():
                known = whole.setdefault(name, [0.0] * len(sums))
                whole[name] = [a + b for a, b in zip(known, sums, strict=True)]
            for name, value in most.items():
                [known_most] = whole.setdefault(name, [value])
                whole[name] = [value if math.isnan(value) or value > known_most else known_most]
        self.not_finite = [n for n, sums in whole.items() if not all(map(math.isfinite, sums))]
        return {name: _value(sums) for name, sums in whole.items()}

    def _add(self, name: str, sums: list[_Value]) -> None:
        fresh: list[_Value] = [s.detach().double() if isinstance(s, Tensor) else s for s in sums]
        known = self._sums.get(name, [0.0] * len(fresh))
        self._sums[name] = [a + b for a, b in zip(known, fresh, strict=True)]

    def _numbers(self) -> Mapping[str, list[float]]:
        """All sums as numbers, in one transfer."""
        tensors = [v for sums in self._sums.values() for v in sums if isinstance(v, Tensor)]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        return {
            name: [next(numbers) if isinstance(v, Tensor) else float(v) for v in sums]
            for name, sums in self._sums.items()
        }


def _centred(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    # Equal values become 0 to the bit, which their mean does not make of them.
    apart = values - values[:1]
    return apart - apart.mean()


def _value(sums: list[float]) -> float:
    match sums:
        case [total]:
            return total
        case [total, count]:
            return total / count if count else float("nan")
        case _:
            return _correlation(*sums)


def _correlation(n: float, x: float, y: float, xx: float, yy: float, xy: float) -> float:
    spread = (n * xx - x * x) * (n * yy - y * y)
    # Below it the difference of the two products is rounding.
    is_constant = spread <= 1e-20 * max(n * xx, 1e-12) * max(n * yy, 1e-12) * n
    return math.nan if n < 2 or is_constant else (n * xy - x * y) / spread**0.5
