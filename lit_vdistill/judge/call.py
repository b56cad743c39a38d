"""One question to a judge: whatever it does, there is an answer in time."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any

from lit_vdistill.judge.judge import Judge, JudgeCase, is_feedback

logger = logging.getLogger(__name__)


class JudgeCall:
    """Asks in the background, and takes anything but a text in time for a failure.

    A judge may raise, hang, answer too few cases, or say what is no text. None of it stops a run or
    reaches the teacher: the case counts as failed and the teacher sees answer and evidence alone.
    The thread of a judge that hangs does not keep the process from ending.
    """

    def __init__(self, judge: Judge, cases: Sequence[JudgeCase], timeout_s: float) -> None:
        """Ask; nobody is asked about nothing.

        Args:
            judge: Who is asked.
            cases: About what.
            timeout_s: Seconds from now on in which all must be answered.
        """
        self._judge, self._cases = judge, list(cases)
        self._timeout_s, self._deadline = timeout_s, time.monotonic() + timeout_s
        self._told: Future[Any] = Future()
        self._answers: list[str | None] | None = None
        if cases:
            Thread(target=self._ask, name="judge", daemon=True).start()
        else:
            self._answers = []

    def result(self) -> list[str | None]:
        """Feedback on each case, None where there is none; waits until the deadline."""
        if self._answers is None:
            self._answers = self._wait()
        return self._answers

    def _ask(self) -> None:
        try:
            self._told.set_result(self._judge.diagnose(self._cases))
        except BaseException as error:
            self._told.set_exception(error)

    def _wait(self) -> list[str | None]:
        count = len(self._cases)
        try:
            error = self._told.exception(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            return self._failed(f"no answer within {self._timeout_s} s (judge_timeout_s)")
        if error is not None:
            return self._failed(f"{type(error).__name__}: {error}")
        found = self._told.result()
        if not isinstance(found, (list, tuple)) or len(found) != count:
            size = len(found) if isinstance(found, (list, tuple)) else type(found).__name__
            return self._failed(f"expected {count} answers, got {size}")
        texts = [text if is_feedback(text) else None for text in found]
        if wrong := sum(a is None and b is not None for a, b in zip(texts, found, strict=True)):
            logger.warning("judge: %d of %d answers are no text", wrong, count)
        return texts

    def _failed(self, reason: str) -> list[str | None]:
        logger.warning(
            "judge: %s; the teacher sees answer and evidence alone for %d rollouts",
            reason, len(self._cases),
        )  # fmt: skip
        return [None] * len(self._cases)
