"""Which model is asked, and what may be asked of it."""

import math
import os
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit


@dataclass(frozen=True)
class EndpointConfig:
    """A served model and what may be asked of it."""

    base_url: str
    """Where chat completions are below, e.g. `http://localhost:8000/v1`."""
    model: str
    """As the server calls it."""
    api_key_env: str | None = None
    """Environment variable with the key; null for a server that asks for none."""
    concurrency: int = 16
    """Calls in flight at the most."""
    requests_per_minute: int | None = None
    """Attempts within any minute at the most, repeated ones too; null is no limit."""
    tokens_per_minute: int | None = None
    """Tokens within any minute, read and written: guessed before a call and corrected after it."""
    attempt_s: float = 120.0
    """Seconds for one attempt, to its reply's last byte."""
    deadline_s: float = 600.0
    """Seconds for a call with all of its attempts."""
    prices: str | None = None
    """YAML file of prices of a million tokens, `{model: {input: 0.2, output: 0.9}}`."""
    max_cost: float | None = None
    """Ceiling of what may be spent by one run, in the prices' currency."""
    limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How a request says how long a reply may be; OpenAI's reasoning models want the second."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """More keys of each request, e.g. vLLM's `top_k`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be kept.

        Raises:
            ValueError: Names the key.
        """
        for key in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"endpoint.{key}: expected 1 or more, got {value}")
        for key in ("attempt_s", "deadline_s", "max_cost"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"endpoint.{key}: expected a number above 0, got {value}")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query:
            raise ValueError(
                "endpoint.base_url: expected http://HOST/v1 or https://HOST/v1 without a user, a "
                "password or a query; a key is named by endpoint.api_key_env"
            )
        if self.max_cost is not None and self.prices is None:
            raise ValueError("endpoint.max_cost needs endpoint.prices, a table to count by")


def key_of(config: EndpointConfig) -> str:
    """The key, from the environment alone.

    Raises:
        ValueError: When the variable is empty or missing.
    """
    if config.api_key_env is None:
        return ""
    if not (key := os.environ.get(config.api_key_env, "").strip()):
        raise ValueError(
            f"endpoint.api_key_env: the environment variable '{config.api_key_env}' is not set; "
            "put the key there, or null for a server that asks for none"
        )
    return key
