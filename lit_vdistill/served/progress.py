"""One bar for whatever a served model is asked: how many, how fast, what it costs, how long."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Per second, of the last while."""
        return Text(f"{task.speed or 0.0:.1f}/s")


class _Cost(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Spent so far, where it is known."""
        spent = task.fields["spent"]()
        return Text("" if spent is None else f"cost {spent:.4f}")


class ServedProgress:
    """A context: the bar on standard error, gone where that is no terminal."""

    def __init__(self, what: str) -> None:
        """Say what is counted."""
        columns: tuple[Any, ...] = (
            "{task.description}", BarColumn(), MofNCompleteColumn(), _Rate(), _Cost(),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=Console(stderr=True), refresh_per_second=2)
        self._task = self._bar.add_task(what, total=None, spent=lambda: None)

    def __enter__(self) -> "ServedProgress":
        """Show it."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave it as it stands."""
        self._bar.stop()

    def begin(self, total: int, spent: Callable[[], float | None]) -> None:
        """Say how many are to come, and who knows what they cost."""
        self._bar.update(self._task, total=total, spent=spent)

    def advance(self, count: int) -> None:
        """So many more are done, perhaps beyond what was known to come."""
        self._bar.advance(self._task, count)
        task = self._bar.tasks[0]
        if task.total is not None and task.completed > task.total:
            self._bar.update(self._task, total=task.completed)
