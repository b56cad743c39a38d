"""Collecting a teacher pool: what is missing is asked for, and nothing that came is lost.

Beside the pool lies a journal, `<pool>.calls`: a line when a call begins, and one when its
responses are on disk or it has failed. After a crash it says which calls were in flight.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from filelock import FileLock, Timeout

from lit_vdistill import jsonl
from lit_vdistill.media.video import MediaError
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.readers.records import BadSample
from lit_vdistill.served.errors import BudgetReached, CallFailed, EndpointFailed, ServedError
from lit_vdistill.types import TeacherResponse, VideoSample

_DOWN_AFTER = 8
"""Calls that fail one after another, and all that were in flight with them, until nobody is asked
any more."""


@runtime_checkable
class Teacher(Protocol):
    """Who answers: a served model, or one in this process."""

    concurrency: int
    """Calls at a time at the most."""

    async def aclose(self) -> None:
        """Nothing is asked any more: let go of what is held."""
        ...

    @property
    def spent(self) -> float | None:
        """What it has cost; None where that is not known."""
        ...

    async def respond(self, sample: VideoSample, first: int, count: int) -> list[TeacherResponse]:
        """Responses from index `first` on: `count` of them or fewer, at least one.

        Raises:
            MediaError: When the sample's medium cannot be shown.
            ServedError: When there is no reply.
        """
        ...


More = Callable[[VideoSample, Sequence[TeacherResponse]], bool]
"""Whether a sample is to have one more response, by those that it has."""


@dataclass(slots=True)
class Outcome:
    """What became of a collection."""

    had: int = 0
    """Responses that were there."""
    added: int = 0
    asked_again: int = 0
    """Calls that were in flight when the last run was killed."""
    failed: list[BadSample] = field(default_factory=list)
    """Samples that have not all of their responses, and why."""
    stopped: str | None = None
    """Why nobody was asked any more before the end."""


class Collector:
    """Fills a pool file, several calls at a time."""

    def __init__(
        self,
        teacher: Teacher,
        store: PoolStore,
        size: int,
        *,
        choices: int | None = None,
        more: More | None = None,
        most_extra: int | None = None,
        on_progress: Callable[[int], None] = lambda added: None,
    ) -> None:
        """Nothing is read or asked yet.

        Args:
            teacher: Who is asked.
            store: Where responses go.
            size: Responses that each sample is to have.
            choices: Responses of one call at the most; None = all that a sample misses.
            more: Who else gets one, one after another; None = nobody.
            most_extra: Such responses of all samples together; None = no limit. Who gets them
                depends on the order in which replies come.
            on_progress: Told how many responses were put on disk.
        """
        self.teacher, self.store, self.size = teacher, store, size
        self.choices, self.on_progress = choices, on_progress
        self.more, self.most_extra, self._extra = more, most_extra, 0
        self.journal = store.path.with_name(f"{store.path.name}.calls")
        self.outcome = Outcome()
        self._pools: dict[str, dict[int, TeacherResponse | None]] = {}
        """What is on disk; the responses themselves where `more` reads them."""
        self._failures = 0

    def missing(self, samples: Iterable[VideoSample]) -> int:
        """Responses that are to come, without those that `more` may ask for."""
        pools = (self._pools.get(sample.id, {}) for sample in samples)
        return sum(index not in pool for pool in pools for index in range(self.size))

    def stop(self, reason: str) -> None:
        """Ask nobody any more; calls in flight come to their end."""
        self.outcome.stopped = self.outcome.stopped or reason

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the pool for this process, and see what is there.

        Raises:
            ValueError: When another process collects it, or a line cannot be read.
        """
        self.store.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self.store.path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"pool_path {self.store.path}: another process is collecting it; wait for it"
            ) from None
        try:
            if self.store.path.is_file():
                found = self.store.load()
                for pool in found.values():
                    self._remember(pool)
            self.outcome.had = sum(map(len, self._pools.values()))
            self._extra = sum(max(0, len(pool) - self.size) for pool in self._pools.values())
            self.outcome.asked_again = self._in_flight()
            jsonl.write(self.journal, [])
            yield
            self.journal.unlink()
        finally:
            lock.release()

    async def run(self, samples: Sequence[VideoSample]) -> Outcome:
        """Ask until every sample has what it wants, or until `stop`.

        Samples whose media or calls fail are counted and left; the next run asks for them again.
        """
        turns = iter(samples)
        workers = [
            asyncio.create_task(self._work(turns)) for _ in range(max(1, self.teacher.concurrency))
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return self.outcome

    async def _work(self, turns: Iterator[VideoSample]) -> None:
        for sample in turns:
            while self.outcome.stopped is None and (call := self._next_call(sample)):
                if not await self._call(sample, *call):
                    break
            if self.outcome.stopped is not None:
                return

    def _remember(self, responses: Sequence[TeacherResponse]) -> None:
        for response in responses:
            kept = None if self.more is None else response
            self._pools.setdefault(response.sample_id, {})[response.index] = kept

    def _known(self, sample: VideoSample) -> list[TeacherResponse]:
        pool = self._pools.get(sample.id, {})
        return [found for index in sorted(pool) if (found := pool[index]) is not None]

    def _next_call(self, sample: VideoSample) -> tuple[int, int] | None:
        """First index and number of the next responses to ask for; None where all are there."""
        pool = self._pools.get(sample.id, {})
        first = next((index for index in range(self.size) if index not in pool), None)
        if first is None:
            return self._extra_call(sample, pool)
        end = first
        while end < self.size and end not in pool:
            end += 1
        return first, min(end - first, self.choices or end - first)

    def _extra_call(
        self, sample: VideoSample, pool: Mapping[int, TeacherResponse | None]
    ) -> tuple[int, int] | None:
        has_room = self.most_extra is None or self._extra < self.most_extra
        try:
            if self.more is None or not has_room or not self.more(sample, self._known(sample)):
                return None
        except MediaError as error:
            self._has_failed(sample, error)
            return None
        self._extra += 1
        return max(pool) + 1, 1

    async def _call(self, sample: VideoSample, first: int, count: int) -> bool:
        """Whether responses came."""
        call = {"sample_id": sample.id, "first": first, "count": count}
        jsonl.append(self.journal, [{**call, "state": "begun"}])
        try:
            found = await self.teacher.respond(sample, first, count)
        except BudgetReached as error:
            self.stop(str(error))
        except EndpointFailed as error:
            self.stop(str(error))
        except (CallFailed, MediaError) as error:
            self._has_failed(sample, error)
        else:
            self._failures = 0
            self.store.append(found)
            self._remember(found)
            self.outcome.added += len(found)
            self.on_progress(len(found))
            jsonl.append(self.journal, [{**call, "state": "stored"}])
            return True
        jsonl.append(self.journal, [{**call, "state": "failed"}])
        return False

    def _has_failed(self, sample: VideoSample, error: Exception) -> None:
        self.outcome.failed.append(BadSample(sample.id, str(sample.media or "text"), str(error)))
        if isinstance(error, ServedError):
            self._failures += 1
            if self._failures >= _DOWN_AFTER + self.teacher.concurrency:
                self.stop(
                    f"{self._failures} calls one after another have failed, the last: {error}"
                )

    def _in_flight(self) -> int:
        """Calls of a run that was killed whose responses are not all on disk."""
        if not self.journal.is_file():
            return 0
        open_calls: dict[tuple[Any, ...], bool] = {}
        for place, row in jsonl.read(self.journal):
            key = _call_of(row, place)
            open_calls[key] = row["state"] == "begun"
        return sum(
            is_open and any(i not in self._pools.get(name, {}) for i in range(first, first + count))
            for (name, first, count), is_open in open_calls.items()
        )


def _call_of(row: Any, place: str) -> tuple[str, int, int]:
    """Which call a line of the journal is about.

    Raises:
        ValueError: When it is none.
    """
    fields: Mapping[str, type] = {"sample_id": str, "first": int, "count": int, "state": str}
    is_call = isinstance(row, dict) and set(row) == set(fields)
    if not is_call or not all(type(row[key]) is kind for key, kind in fields.items()):
        raise ValueError(f"{place}: no line of a journal of calls: {row!r:.80}; remove the file")
    return row["sample_id"], row["first"], row["count"]
