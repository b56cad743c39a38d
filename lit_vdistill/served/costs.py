"""What calls cost, and a ceiling that no call goes through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_vdistill.served.errors import BudgetReached

_KEYS = ("input", "output")


@dataclass(frozen=True, slots=True)
class Price:
    """Of a million tokens, in whatever currency the table is."""

    input: float
    output: float

    @classmethod
    def read(cls, path: str, model: str) -> "Price":
        """From a YAML file of `input` and `output` by model.

        Raises:
            ValueError: When the file cannot be read so, or does not name the model.
        """
        try:
            table: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"endpoint.prices {path}: cannot be read ({reason})") from error
        if not isinstance(table, dict) or model not in table:
            known = sorted(map(str, table)) if isinstance(table, dict) else type(table).__name__
            raise ValueError(f"endpoint.prices {path}: no entry '{model}', only {known}")
        entry = table[model]
        is_price = isinstance(entry, dict) and set(entry) == set(_KEYS)
        values = list(entry.values()) if is_price else []
        if not is_price or not all(type(v) in (int, float) and 0 <= v < 1e9 for v in values):
            raise ValueError(
                f"endpoint.prices {path}: '{model}' must have input and output, each a price of a "
                f"million tokens, got {entry!r:.120}"
            )
        return cls(float(entry["input"]), float(entry["output"]))

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """What a call has cost."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


class CostMeter:
    """Counts what was spent, and lets no more calls begin than the rest pays for.

    What a call will cost is not known: it is taken to be the dearest so far, so the first one goes
    alone.
    """

    def __init__(self, ceiling: float | None) -> None:
        """None is no ceiling."""
        self.ceiling, self.spent = ceiling, 0.0
        self._dearest: float | None = None
        self._in_flight = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        """Begin a call once it can be paid for.

        Raises:
            BudgetReached: When it cannot be, and nothing is in flight that may turn out cheaper.
        """
        if self.ceiling is None:
            yield
            return
        async with self._changed:
            while not self._is_paid_for():
                if not self._in_flight:
                    raise BudgetReached(
                        f"spent {self.spent:.4f} of endpoint.max_cost {self.ceiling}: the next "
                        f"call may cost {self._dearest or 0.0:.4f}; raise it to go on"
                    )
                await self._changed.wait()
            self._in_flight += 1
        try:
            yield
        finally:
            async with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def add(self, cost: float) -> None:
        """Count what a call has cost."""
        self.spent += cost
        self._dearest = max(self._dearest or 0.0, cost)

    def _is_paid_for(self) -> bool:
        assert self.ceiling is not None
        if self._dearest is None:
            return not self._in_flight and self.spent < self.ceiling
        return self.spent + self._dearest * (self._in_flight + 1) <= self.ceiling
