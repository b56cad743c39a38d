"""Rate limits as providers count them: at most so much within any minute."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 61.0
"""A minute, and a second for what arrives sooner after another than it was sent."""


@dataclass(slots=True)
class Taken:
    """What one attempt has taken of a limit."""

    at_s: float
    amount: float


class WindowLimit:
    """At most `most` within any window of time, first come first served.

    A leaky bucket lets through up to twice that within a window that begins with a full one.
    """

    def __init__(
        self,
        most: int | None,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up; None lets everything through."""
        self.most, self.window_s, self._clock = most, window_s, clock
        self._taken: deque[Taken] = deque()
        self._total = 0.0
        self._turn = asyncio.Lock()

    async def take(self, amount: float = 1.0) -> Taken:
        """Wait until there is room; more than there ever is waits for an empty window."""
        async with self._turn:
            while (wait_s := self._wait_s(amount)) > 0:
                await asyncio.sleep(wait_s)
            taken = Taken(self._clock(), amount)
            self._taken.append(taken)
            self._total += amount
            return taken

    def correct(self, taken: Taken, amount: float) -> None:
        """Say how much it was in truth, where that was not known before."""
        if taken.at_s > self._clock() - self.window_s:
            self._total += amount - taken.amount
        taken.amount = amount

    def _wait_s(self, amount: float) -> float:
        """Seconds until something leaves the window, 0 where there is room already."""
        now = self._clock()
        while self._taken and self._taken[0].at_s <= now - self.window_s:
            self._total -= self._taken.popleft().amount
        if self.most is None or not self._taken or self._total + amount <= self.most:
            return 0.0
        # A timer may fire a little early.
        return self._taken[0].at_s + self.window_s - now + 1e-3
