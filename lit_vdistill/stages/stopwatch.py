"""Where the time of an optimizer step goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds by kind of work, from one step's end to the next.

    Wall-clock time of this process: on a GPU work that nobody has waited for yet is counted where
    it is waited for, which sampling does at every token and the update at its end.
    """

    def __init__(self) -> None:
        """Start now."""
        self._lap = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._running: dict[str, float] = {}

    def start(self, kind: str) -> None:
        """Begin to measure."""
        self._running[kind] = time.perf_counter()

    def stop(self, kind: str) -> None:
        """End it; without a beginning nothing was measured."""
        if kind in self._running:
            spent = time.perf_counter() - self._running.pop(kind)
            self._seconds[kind] = self._seconds.get(kind, 0.0) + spent

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Measure a block."""
        self.start(kind)
        yield
        self.stop(kind)

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap by kind; what was not measured is `update`."""
        now = time.perf_counter()
        seconds, self._seconds = self._seconds, {}
        whole, self._lap = now - self._lap, now
        return {**seconds, "update": max(0.0, whole - sum(seconds.values()))}
