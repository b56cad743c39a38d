"""A vLLM server that samples for a training run: what it is asked, and how long it is waited for.

Its addresses are those of vLLM's tokens-in-tokens-out and reinforcement-learning interfaces (0.32);
`serve --rollouts` starts one that has them.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import openai

from lit_vdistill.served.errors import CallFailed, EndpointFailed, ServedError, Unreachable

Found = TypeVar("Found")
_ASKED_EVERY_S = 0.5
_ROUNDING = 1e-3
"""How far above 0 a log-probability may be rounded."""
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Sampled:
    """One completion as the server has drawn it."""

    ids: tuple[int, ...]
    """With the end of sequence, where it was drawn."""
    logprobs: tuple[float, ...]
    versions: frozenset[str]
    """Labels of the weights that have drawn its tokens."""


class RolloutServer:
    """One server by its address; safe to be used by several threads."""

    def __init__(self, url: str, patience_s: float) -> None:
        """Remember the address; nothing is asked yet.

        Args:
            url: `http://HOST:PORT`, without a path.
            patience_s: Seconds that a call may take, and that a server which does not answer is
                waited for.

        Raises:
            ValueError: When the address is none, or the patience no time.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.path.strip("/") or not parts.netloc:
            raise ValueError(f"url: expected http://HOST:PORT, got '{url}'")
        if not 0 < patience_s < float("inf"):
            raise ValueError(f"patience_s: expected seconds, above 0, got {patience_s}")
        self.url, self.patience_s = url.rstrip("/"), patience_s
        self._client = openai.OpenAI(
            api_key="none", base_url=self.url, max_retries=0, timeout=patience_s
        )

    def generate(self, request: Mapping[str, Any]) -> list[Sampled]:
        """All completions of one prompt, in the order of their indices.

        Raises:
            Unreachable: When nobody answers.
            CallFailed: When the request is refused, or the reply is none.
        """
        reply = self._post("/inference/v1/generate", request)
        choices = reply.get("choices") if isinstance(reply, dict) else None
        try:
            if any(choice["finish_reason"] == "abort" for choice in choices or ()):
                raise Unreachable(f"{self.url}: has broken off a request")
            found = [_sampled(choice) for choice in sorted(choices or (), key=_index)]
        except (KeyError, TypeError, ValueError) as error:
            raise CallFailed(
                f"{self.url}: a reply that is none of vLLM's generate: {error!r:.120}"
            ) from None
        asked = request["sampling_params"]["n"]
        if len(found) != asked:
            raise CallFailed(f"{self.url}: {len(found)} completions of {asked} came back")
        return found

    def version(self) -> str:
        """The label of its weights."""
        return str(self._get("/weight_info").get("weight_version"))

    def num_workers(self) -> int:
        """How many processes hold its weights."""
        return int(self._get("/get_world_size")["world_size"])

    def begin_transfer(self, agreed: Mapping[str, Any]) -> None:
        """Have its workers meet the trainer; once in a server's life."""
        self._post("/init_weight_transfer_engine", {"init_info": dict(agreed)})

    def renew(self, update: Callable[[], None], version: str) -> None:
        """Put new weights in place of the old ones, between whole requests.

        Pausing empties all caches: of prefixes, of media, and of what the tower has made of them.

        Args:
            update: Sends them, by `send_update`.
            version: Their label.
        """
        self._post("/pause?mode=wait&clear_cache=true")
        try:
            self._begin_update()
            update()
            self._post("/finish_weight_update", {"weight_version": version})
        except BaseException:  # whatever it was, others may ask it on
            with suppress(ServedError):
                self._post("/resume")
            raise
        self._post("/resume")

    def _begin_update(self) -> None:
        """Start one; a run that was killed may have left its own open."""
        try:
            self._post("/start_weight_update")
        except CallFailed as error:
            if "already active" not in str(error):
                raise
            self._post("/finish_weight_update")
            self._post("/start_weight_update")

    def send_update(self, told: Mapping[str, Any]) -> None:
        """Tell the workers what comes, or where it lies; returns when they have it."""
        self._post("/update_weights", {"update_info": dict(told)})

    def wait(self) -> None:
        """Until it answers.

        Raises:
            EndpointFailed: When it has not within `patience_s`.
        """
        self.patiently(lambda: self._client.get("/health", cast_to=object))

    def patiently(self, work: Callable[[], Found]) -> Found:
        """Do something, again and again while nobody answers.

        Raises:
            EndpointFailed: When nobody has within `patience_s`.
        """
        begun_s = time.monotonic()
        while True:
            try:
                return self._told(work)
            except Unreachable as error:
                if time.monotonic() - begun_s > self.patience_s:
                    raise EndpointFailed(
                        f"{error}, for {self.patience_s:g} s (patience_s): start it by "
                        "`python -m lit_vdistill serve --student DIR --rollouts file`, look at its "
                        "log, or name another in model.sampling.engine.init_args.url"
                    ) from None
            time.sleep(_ASKED_EVERY_S)

    def _post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._told(lambda: self._client.post(path, cast_to=object, body=body or {}))

    def _get(self, path: str) -> Any:
        return self._told(lambda: self._client.get(path, cast_to=object))

    def _told(self, call: Callable[[], Found]) -> Found:
        """What a call comes to, its errors in one line each."""
        try:
            return call()
        except openai.APIStatusError as error:
            said = _line(f"HTTP {error.status_code} {error.message}")
            if error.status_code in (502, 503, 504):
                raise Unreachable(f"{self.url}: {said}") from None
            hint = ""
            if error.status_code == 404:
                hint = "; it was started without --rollouts, or is no vLLM"
            raise CallFailed(f"{self.url}: {said}{hint}") from None
        except openai.APIError as error:
            cause = error.__cause__ or error
            raise Unreachable(
                f"{self.url}: nobody answers ({_line(f'{type(cause).__name__} {cause}')})"
            ) from None


def _index(choice: Any) -> int:
    return int(choice["index"])


def _sampled(choice: Any) -> Sampled:
    ids = tuple(choice["token_ids"])
    told = choice["logprobs"]["content"]
    logprobs = tuple(float(entry["logprob"]) for entry in told)
    if not ids or len(ids) != len(logprobs):
        raise ValueError(f"{len(ids)} tokens with {len(logprobs)} log-probabilities")
    if any(type(i) is not int or i < 0 for i in ids) or not all(p <= _ROUNDING for p in logprobs):
        raise ValueError("a token that is none, or a log-probability above 0")
    versions = frozenset(str(span["version"]) for span in choice["weight_versions"] or ())
    return Sampled(ids, logprobs, versions)


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"
