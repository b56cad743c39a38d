"""A served model for callers that are not asynchronous: its calls run in a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from lit_vdistill.served.client import ServedModel
from lit_vdistill.served.endpoint import EndpointConfig
from lit_vdistill.served.errors import ServedError

Given = TypeVar("Given")
Found = TypeVar("Found")


class ServedInThread:
    """Works on several things at a time, each by calls to one model, whose limits last."""

    def __init__(self, config: EndpointConfig) -> None:
        """Look up key and prices now; the thread starts with the first call.

        Raises:
            ValueError: When one is missing.
        """
        self.config = config
        self.model = ServedModel(config)
        self._loop: asyncio.AbstractEventLoop | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "ServedInThread":
        """Another with the same configuration: connections and threads belong to one."""
        return ServedInThread(self.config)

    def __reduce__(self) -> tuple[Any, ...]:
        """As a copy, for another process."""
        return ServedInThread, (self.config,)

    def each(
        self,
        work: Callable[[ServedModel, Given], Awaitable[Found]],
        given: Sequence[Given],
        budget_s: float,
    ) -> list[Found | ServedError | None]:
        """What work on each has come to, all of it at the same time.

        Args:
            work: Makes calls for one; may raise `ServedError`.
            given: What each is about.
            budget_s: Seconds for all of it.

        Returns:
            In the order given: what was found; the error where calls failed; None where time ran
            out.
        """
        return asyncio.run_coroutine_threadsafe(
            self._all(work, given, budget_s), self._running()
        ).result()

    async def _all(
        self,
        work: Callable[[ServedModel, Given], Awaitable[Found]],
        given: Sequence[Given],
        budget_s: float,
    ) -> list[Found | ServedError | None]:
        tasks = [asyncio.ensure_future(work(self.model, one)) for one in given]
        _, late = await asyncio.wait(tasks, timeout=budget_s) if tasks else (set(), set())
        for task in late:
            task.cancel()
        found: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        for one in found:
            if isinstance(one, Exception) and not isinstance(one, ServedError):
                raise one
        return [None if isinstance(one, asyncio.CancelledError) else one for one in found]

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="served", daemon=True).start()
        return self._loop
