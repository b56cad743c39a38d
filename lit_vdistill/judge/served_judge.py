"""A language model behind an endpoint as judge and as rater."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_vdistill import jsonl
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.judge.prompt import (
    PROMPT_VERSION,
    judge_messages,
    read_feedback,
    read_feedback_leniently,
)
from lit_vdistill.judge.rating import RATING_VERSION, rating_messages, read_rating
from lit_vdistill.responses.prompts import Message
from lit_vdistill.served.client import ServedModel, ServedSampling
from lit_vdistill.served.endpoint import EndpointConfig
from lit_vdistill.served.errors import CallFailed, ServedError
from lit_vdistill.served.in_thread import ServedInThread

logger = logging.getLogger(__name__)
Reading = Literal["strict", "lenient"]
_READ: Mapping[Reading, Callable[[str], str]] = {
    "strict": read_feedback,
    "lenient": read_feedback_leniently,
}
_RATING_TOKENS = 1024
"""A digit would do; a model that reasons counts its reasoning."""
_REPAIR = (
    'That was no JSON object with the single key "feedback" and a text. Return the same feedback '
    "as such an object, and nothing around it."
)


@dataclass(frozen=True)
class Replies:
    """How a judge's replies are drawn and taken apart."""

    temperature: float | None = 0.0
    """null leaves it to the server, as VISD's release does."""
    max_tokens: int = 256
    reading: Reading = "strict"
    """`strict`: JSON with the one key `feedback`, of which one repair is asked for; `lenient`: as
    VISD's release, JSON in fences or in words, else the reply itself is the feedback."""
    budget_s: float = 90.0
    """Seconds for all cases of a call; what comes later counts as failed. Below
    `credit.judge_timeout_s`, behind which none of them counts."""


class OpenAIJudge:
    """Asks a served model about each case at the same time (VISD §3.2, Appendix G).

    It reads text only: question, truth, hidden evidence and the response. `counts` has what became
    of the cases: `read` at once, `repaired`, `failed` calls, `unreadable`, `late`; and how many
    first replies were `json` with the one key, however they are read.
    """

    def __init__(self, endpoint: EndpointConfig, replies: Replies = Replies()) -> None:
        """Look up the key; nothing is asked yet.

        Args:
            endpoint: The model and its limits.
            replies: How its replies are drawn and read.
        """
        self.endpoint, self.replies = endpoint, replies
        self.counts: Counter[str] = Counter()
        self._served = ServedInThread(endpoint)

    @property
    def identity(self) -> str:
        """Model, version of the prompt, and how replies are asked for, drawn and read."""
        told, more = self.replies, self.endpoint.extra_body
        drawn = f"{told.temperature}/{told.max_tokens}/{told.reading}"
        asked = f"/{hashlib.sha256(repr(more).encode()).hexdigest()[:8]}" if more else ""
        return f"{self.endpoint.model}/{PROMPT_VERSION}/{drawn}{asked}"

    @property
    def spent(self) -> float | None:
        """What it has cost; None without prices."""
        model = self._served.model
        return None if model.price is None else model.meter.spent

    def diagnose(self, cases: Sequence[JudgeCase]) -> list[str | None]:
        """See `Judge`."""
        found = self._served.each(self._judged, cases, self.replies.budget_s)
        failed = Counter(_kind_of(one) for one in found if not isinstance(one, str))
        self.counts += failed
        if failed:
            errors = [str(one) for one in found if isinstance(one, ServedError)]
            logger.warning(
                "judge: of %d cases %s%s", len(cases), dict(failed),
                f", e.g. {errors[0]}" if errors else "",
            )  # fmt: skip
        return [one if isinstance(one, str) else None for one in found]

    async def _judged(self, model: ServedModel, case: JudgeCase) -> str:
        told, messages = self.replies, judge_messages(case)
        drawn = ServedSampling(told.temperature, None, told.max_tokens)
        read = _READ[told.reading]
        for turn, name in enumerate(("read", "repaired")):
            reply = (await model.ask(messages, drawn)).choices[0].text
            self.counts["json"] += turn == 0 and _is_json(reply)
            try:
                feedback = read(reply)
            except ValueError as error:
                if turn:
                    raise _UnreadableError(f"no feedback in the reply: {error}") from None
                said: list[Message] = [{"role": "assistant", "content": reply}]
                messages = [*messages, *said, {"role": "user", "content": _REPAIR}]
                continue
            self.counts[name] += 1
            return feedback
        raise AssertionError("the second turn returns or raises")


class _UnreadableError(CallFailed):
    """A reply that is no feedback, after its repair."""


def _is_json(reply: str) -> bool:
    try:
        read_feedback(reply)
    except ValueError:
        return False
    return True


def _kind_of(found: ServedError | None) -> str:
    if found is None:
        return "late"
    return "unreadable" if isinstance(found, _UnreadableError) else "failed"


class OpenAIRater:
    """Says of answers how right they are, 0 to 3, by a served model; what it has said is kept."""

    def __init__(
        self, endpoint: EndpointConfig, path: str | None = None, budget_s: float = 3600.0
    ) -> None:
        """Read what is kept.

        Args:
            endpoint: The model and its limits.
            path: JSONL file of ratings, kept between runs; None keeps them for this one.
            budget_s: Seconds for all answers of a call.

        Raises:
            ValueError: For a line that is no rating; names file and line.
        """
        self.endpoint, self.budget_s = endpoint, budget_s
        self.path = None if path is None else Path(path)
        self.known: dict[str, int] = {}
        self._served = ServedInThread(endpoint)
        if self.path is not None and self.path.exists():
            for place, row in jsonl.read(self.path):
                self._remember(place, row)

    def rate(self, asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
        """How right each candidate is; None where the model has not said.

        Args:
            asked: Question, true answer and candidate of each.
        """
        keys = [self._key(one) for one in asked]
        new = {key: one for key, one in zip(keys, asked, strict=True) if key not in self.known}
        found = self._served.each(_rated, list(new.values()), self.budget_s)
        rated = {k: one for k, one in zip(new, found, strict=True) if isinstance(one, int)}
        if missing := len(new) - len(rated):
            errors = [str(one) for one in found if isinstance(one, ServedError)]
            logger.warning("rater: %d of %d answers have no rating, e.g. %s",
                           missing, len(new), errors[0] if errors else "out of time")  # fmt: skip
        self.known |= rated
        if self.path is not None and rated:
            jsonl.append(self.path, ({"key": k, "rating": r} for k, r in rated.items()))
        return [self.known.get(key) for key in keys]

    def _key(self, asked: tuple[str, str, str]) -> str:
        content = repr((self.endpoint.model, RATING_VERSION, asked))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def _remember(self, place: str, row: Any) -> None:
        is_rating = isinstance(row, dict) and set(row) == {"key", "rating"}
        if not is_rating or type(row["key"]) is not str or row["rating"] not in (0, 1, 2, 3):
            raise ValueError(
                f"{place}: expected an object with 'key' and a 'rating' of 0 to 3, got "
                f"{row!r:.80}; delete the line, it will be asked for again"
            )
        self.known[row["key"]] = row["rating"]


async def _rated(model: ServedModel, asked: tuple[str, str, str]) -> int:
    reply = await model.ask(rating_messages(*asked), ServedSampling(None, None, _RATING_TOKENS))
    rating = read_rating(reply.choices[0].text)
    if rating is None:
        raise _UnreadableError(f"no rating in {reply.choices[0].text!r:.80}")
    return rating
