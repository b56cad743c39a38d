"""Calls to one endpoint that speaks OpenAI's chat completions, as many as it bears."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_before_delay

from lit_vdistill import jsonl
from lit_vdistill.served.costs import CostMeter, Price
from lit_vdistill.served.endpoint import EndpointConfig, key_of
from lit_vdistill.served.errors import CallFailed, EndpointFailed
from lit_vdistill.served.limits import WindowLimit

logger = logging.getLogger(__name__)
Messages = Sequence[Mapping[str, Any]]
_NO_CALL_CAN = {401: "the key", 402: "payment", 403: "the key", 404: "the address or the model"}
_WORTH_ANOTHER = {408, 409, 425, 429}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_UNHEARD_S = 20.0
"""How long a server is waited for that has never answered."""
_CHARS_A_TOKEN = 3
_KIND = 24
"""Characters by which one kind of trouble is told from another."""
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class ServedSampling:
    """How replies are drawn."""

    temperature: float | None
    """None leaves it, as top-p, to the server; some refuse to be told."""
    top_p: float | None
    max_tokens: int
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a reply's texts."""

    text: str
    finish_reason: str
    """`stop`, or `length` where the text was cut off."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of a call."""

    choices: tuple[Choice, ...]
    input_tokens: int | None
    """Of the prompt, once; None where the server does not say."""
    output_tokens: int | None
    """Of all choices together."""
    cost: float | None
    """None without prices."""


class _Again(Exception):
    """An attempt that failed and may be made again."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


class ServedModel:
    """One endpoint within its limits; it holds connections until `aclose`.

    Attempts that end in 408, 409, 425, 429, 5xx, a cut connection, a time-out or an unreadable
    reply are made again, later and later, not before `Retry-After`, until the call's deadline.
    """

    def __init__(self, config: EndpointConfig) -> None:
        """Look up the key and the prices.

        Raises:
            ValueError: When one is missing.
        """
        self.config = config
        self._key = key_of(config)
        self.price = None if config.prices is None else Price.read(config.prices, config.model)
        self.meter = CostMeter(config.max_cost)
        self.attempts, self.retries = 0, 0
        self._slots = asyncio.Semaphore(config.concurrency)
        self._requests = WindowLimit(config.requests_per_minute)
        self._tokens = WindowLimit(config.tokens_per_minute)
        self._mean_tokens: float | None = None
        self._not_before_s, self._begun_s, self._has_answered = 0.0, 0.0, False
        self._warned: set[str] = set()
        # Retries are ours: each attempt has to pass the limits.
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=config.base_url,
            max_retries=0,
            timeout=config.attempt_s,
        )

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.close()

    async def ask(self, messages: Messages, sampling: ServedSampling, count: int = 1) -> Reply:
        """One call for so many texts; fewer may come back, at least one.

        Raises:
            CallFailed: When this one is refused or was not answered in time.
            EndpointFailed: When no call can be.
            BudgetReached: When it cannot be paid for.
        """
        async with self._slots, self.meter.room():
            return await self._in_time(self._request(messages, sampling, count), count)

    def _request(self, messages: Messages, sampling: ServedSampling, count: int) -> dict[str, Any]:
        drawn = {
            "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed,
            self.config.limit_key: sampling.max_tokens,
        }  # fmt: skip
        return {
            "model": self.config.model, "messages": list(messages), "n": count,
            "extra_body": self.config.extra_body,
            **{key: value for key, value in drawn.items() if value is not None},
        }  # fmt: skip

    async def _in_time(self, request: dict[str, Any], count: int) -> Reply:
        deadline_s = self.config.deadline_s
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_Again), wait=_wait_s, before_sleep=self._warn,
            stop=stop_before_delay(deadline_s), reraise=True,
        )  # fmt: skip
        made = 0
        try:
            async for attempt in attempts:
                with attempt:
                    made += 1
                    self.retries += made > 1
                    reply = await self._attempt(request, count)
                    self._has_answered = True
                    return reply
        except _Again as error:
            raise CallFailed(
                f"{self.config.base_url}: {error}, after {made} attempts (endpoint.deadline_s "
                f"{deadline_s:g})"
            ) from None
        raise AssertionError("an attempt returns or raises")

    def _warn(self, state: RetryCallState) -> None:
        """Say once of each kind of trouble that it is being waited for."""
        assert state.outcome is not None
        reason = str(state.outcome.exception())
        if (kind := reason[:_KIND]) not in self._warned:
            self._warned.add(kind)
            logger.warning(
                "%s: %s; asking again, a call for %g s at the most",
                self.config.base_url, reason, self.config.deadline_s,
            )  # fmt: skip

    async def _attempt(self, request: dict[str, Any], count: int) -> Reply:
        tokens = await self._tokens.take(self._guess(request))
        await self._requests.take()
        while (wait_s := self._not_before_s - time.monotonic()) > 0:
            if wait_s > self.config.deadline_s:
                raise _Again(f"the server asks not to be asked for {wait_s:.0f} s", wait_s)
            await asyncio.sleep(wait_s)
        if not self.attempts:
            self._begun_s = time.monotonic()
        self.attempts += 1
        try:
            async with asyncio.timeout(self.config.attempt_s):
                found = await self._client.chat.completions.with_raw_response.create(**request)
        except TimeoutError:
            raise _Again(
                f"no whole reply within endpoint.attempt_s {self.config.attempt_s:g}"
            ) from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APIError as error:
            raise self._unreached(error) from None
        reply = self._read(found.content, count)
        used = float((reply.input_tokens or 0) + (reply.output_tokens or 0))
        if used:
            self._tokens.correct(tokens, used)
            known = self._mean_tokens
            self._mean_tokens = used if known is None else known + 0.1 * (used - known)
        return reply

    def _unreached(self, error: openai.APIError) -> Exception:
        """A cut connection may be made again; where there never was one, not for long."""
        cause = error.__cause__ or error
        said = self._shown(f"{type(cause).__name__} {cause}")
        waited_s = time.monotonic() - self._begun_s
        if self._has_answered or waited_s < _UNHEARD_S:
            return _Again(said)
        return EndpointFailed(
            f"{self.config.base_url}: nobody answers ({said}), in {waited_s:.0f} s not once; is "
            "the server up (endpoint.base_url)?"
        )

    def _guess(self, request: dict[str, Any]) -> float:
        """Tokens of a call: as the last ones had, else what its text and its limit allow."""
        if self.config.tokens_per_minute is None:
            return 0.0
        if self._mean_tokens is not None:
            return self._mean_tokens
        text = sum(len(part) for turn in request["messages"] for part in _texts(turn["content"]))
        return text / _CHARS_A_TOKEN + request["n"] * request[self.config.limit_key]

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        """What a status means for the call, and for all others."""
        status = error.status_code
        said = self._shown(f"HTTP {status} {error.message}")
        if status in _NO_CALL_CAN or "insufficient_quota" in error.response.text:
            about = _NO_CALL_CAN.get(status, "the quota")
            return EndpointFailed(
                f"{self.config.base_url}: {said}; look at {about} (endpoint.base_url, model, "
                "api_key_env)"
            )
        if status not in _WORTH_ANOTHER and status < 500:
            return CallFailed(f"{self.config.base_url}: {said}")
        after_s = _retry_after_s(error.response.headers)
        if after_s:
            self._not_before_s = max(self._not_before_s, time.monotonic() + after_s)
        return _Again(said, after_s)

    def _read(self, body: bytes, count: int) -> Reply:
        """A reply taken apart; nothing of it is trusted, and a key that it sends back is not kept.

        Raises:
            _Again: When it is none.
            EndpointFailed: When it does not say what is needed to keep to the ceiling.
        """
        body = body.replace(self._key.encode(), b"***") if self._key else body
        try:
            raw = jsonl.parse(body, "the reply")
        except jsonl.LineError as error:
            raise _Again(self._shown(str(error))) from None
        raw = raw if isinstance(raw, dict) else {}
        usage = raw.get("usage")
        used = usage if isinstance(usage, dict) else {}
        read, written = _count(used.get("prompt_tokens")), _count(used.get("completion_tokens"))
        cost = None if self.price is None else self.price.of(read or 0, written or 0)
        self.meter.add(cost or 0.0)  # it is billed, whether it can be used or not
        listed = raw.get("choices")
        if not isinstance(listed, list):
            raise _Again(self._shown(f"a reply without choices: {body!r}"))
        choices = [choice for choice in map(_choice, listed[:count]) if choice is not None]
        if not choices:
            raise _Again(self._shown(f"a reply without a text: {raw!r}"))
        if self.config.max_cost is not None and None in (read, written):
            raise EndpointFailed(
                f"{self.config.base_url}: its replies do not say how many tokens they took (usage),"
                " so that endpoint.max_cost cannot be kept; leave it out"
            )
        return Reply(tuple(choices), read, written, cost)

    def _shown(self, text: str) -> str:
        """One line without the key, which a server may send back."""
        line = " ".join(text.split())
        line = line.replace(self._key, "***") if self._key else line
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


def _wait_s(state: RetryCallState) -> float:
    """Twice as long each time, by chance up to half of it more, and not before `Retry-After`."""
    assert state.outcome is not None
    error = state.outcome.exception()
    longer = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (state.attempt_number - 1))
    asked = error.after_s if isinstance(error, _Again) else 0.0
    return max(longer * random.uniform(1.0, 1.5), asked)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds of a `Retry-After`, given as such or as a date; 0 where there is none."""
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _choice(raw: Any) -> Choice | None:
    """A text of a reply; None where there is none that can be written."""
    message = raw.get("message") if isinstance(raw, dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str) or not text.strip() or not jsonl.has_utf8(text):
        return None
    reason = raw.get("finish_reason")
    if not isinstance(reason, str) or not jsonl.has_utf8(reason):
        reason = "unknown"
    return Choice(text, reason)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content if part.get("type") == "text"]
