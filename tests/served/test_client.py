"""One endpoint's client, against a server that misbehaves."""

import asyncio
import json
import logging
import time
from contextlib import aclosing
from email.utils import formatdate

import pytest

from lit_vdistill.served import client as client_module
from lit_vdistill.served.client import ServedModel, ServedSampling
from lit_vdistill.served.endpoint import EndpointConfig
from lit_vdistill.served.errors import BudgetReached, CallFailed, EndpointFailed
from lit_vdistill.served.limits import WindowLimit
from tests.served.misbehaving_server import (
    Server,
    answers,
    cuts,
    drips,
    fails,
    raw,
    reply,
    says,
    slow,
    stalls,
)

SAMPLING = ServedSampling(temperature=1.0, top_p=0.9, max_tokens=64, seed=7)
CHAT = [{"role": "user", "content": "What is there?"}]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Retries come quickly."""
    monkeypatch.setattr(client_module, "_FIRST_WAIT_S", 0.01)


def ask(server, count=1, times=1, **options):
    """Calls at the same time; what each gave or raised, and the model."""
    options = {"attempt_s": 1.0, "deadline_s": 5.0, **options}
    config = EndpointConfig(server.url, "m", **options)

    async def run():
        async with aclosing(ServedModel(config)) as model:
            calls = (model.ask(CHAT, SAMPLING, count) for _ in range(times))
            return await asyncio.gather(*calls, return_exceptions=True), model

    return asyncio.run(run())


def texts(found):
    return [choice.text for choice in found.choices]


def test_a_call_asks_what_it_is_told_and_counts_what_was_used(tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("m: {input: 2.0, output: 10}")
    with Server(answers) as server:
        (found,), model = ask(server, 3, prices=str(prices), extra_body={"top_k": 50})
    assert texts(found) == [f"text {i} of 7" for i in range(3)]
    assert (found.input_tokens, found.output_tokens) == (10, 15)
    assert found.cost == pytest.approx((2 * 10 + 10 * 15) / 1e6) == model.meter.spent
    assert server.asked == [
        {"model": "m", "messages": CHAT, "n": 3, "temperature": 1.0, "top_p": 0.9,
         "max_tokens": 64, "seed": 7, "top_k": 50}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "trouble",
    [
        fails(429), fails(500), fails(503, body=b"<html>overloaded"), fails(408), cuts,
        raw(b'{"choices": [{"mess'), raw(b"\xff\xfe\x00"), raw(b"[1]"), raw(b'{"choices": "x"}'),
        raw(b'{"choices": [3]}'), says(), says(""), says("  "), says(None), says({"a": "b"}),
        says("\ud800"), raw(b"[" * 100_000), raw(b"NaN"), raw(b""),
        raw(b'{"choices": [{"message": null}]}'), stalls(1.5), drips,
    ],
)  # fmt: skip
def test_what_may_pass_is_asked_again(trouble):
    with Server(trouble, answers) as server:
        (found,), model = ask(server, 2)
    assert texts(found) == ["text 0 of 7", "text 1 of 7"]
    assert (model.attempts, model.retries, len(server.asked)) == (2, 1, 2)


@pytest.mark.parametrize("given", ["1", "date", "x", "nan", "-5"])
def test_retry_after_is_honoured_by_all_calls(given):
    """Another call that begins in between waits as well."""

    def behave(handler, asked):
        value = formatdate(time.time() + 2, usegmt=True) if given == "date" else given
        fails(429, ("Retry-After", value))(handler, asked)

    with Server(behave, answers) as server:
        found, _ = ask(server, times=2, concurrency=1)
    assert [texts(reply) for reply in found] == [["text 0 of 7"]] * 2
    waited = server.arrived_s[1] - server.arrived_s[0]
    assert (waited >= 0.95) == (given in ("1", "date"))


def test_a_server_that_wants_rest_for_longer_than_the_deadline_is_not_waited_for():
    with Server(fails(429, ("Retry-After", "3600"))) as server:
        begun = time.monotonic()
        found, _ = ask(server, times=3, concurrency=2)
    assert time.monotonic() - begun < 4
    assert all(isinstance(error, CallFailed) for error in found)
    assert "HTTP 429" in str(found[0])
    assert "after 1 attempts" in str(found[0])


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_call_that_is_refused_is_not_made_again(status):
    with Server(fails(status, body=b'{"error": {"message": "too\\nlong"}}')) as server:
        (error,), _ = ask(server)
    assert type(error) is CallFailed
    assert "\n" not in str(error)
    assert f"HTTP {status}" in str(error)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_no_call_can_pass_is_told_apart(status):
    with Server(fails(status)) as server:
        (error,), _ = ask(server)
    assert type(error) is EndpointFailed
    quota = b'{"error": {"message": "out of quota", "code": "insufficient_quota"}}'
    with Server(fails(429, body=quota)) as server:
        (error,), _ = ask(server)
    assert type(error) is EndpointFailed
    assert "look at the quota" in str(error)


def test_a_server_that_is_not_there_is_a_call_that_failed(caplog):
    with Server(answers) as server:
        pass
    (error,), model = ask(server, deadline_s=0.5)
    assert type(error) is CallFailed
    assert f"{server.url}: ConnectError" in str(error)
    assert model.retries > 2
    (warned,) = caplog.messages
    assert "asking again, a call for 0.5 s at the most" in warned


def test_a_server_that_has_never_answered_is_not_waited_for_as_long(monkeypatch):
    monkeypatch.setattr(client_module, "_UNHEARD_S", 0.2)
    with Server(answers) as server:
        pass
    (error,), _ = ask(server)
    assert type(error) is EndpointFailed
    assert "nobody answers (ConnectError" in str(error)
    with Server(answers, *[cuts] * 5, answers) as server:  # it has answered: its deadline counts
        found, _ = ask(server, times=2, concurrency=1)
    assert [texts(reply) for reply in found] == [["text 0 of 7"]] * 2


@pytest.mark.parametrize(("given", "kept"), [(1, 1), (3, 3), (5, 3)])
def test_fewer_texts_are_a_reply_and_more_are_cut(given, kept):
    with Server(says(*"abcde"[:given])) as server:
        (found,), _ = ask(server, 3)
    assert texts(found) == [*"abcde"[:kept]]


@pytest.mark.parametrize(
    "usage", [None, [3], {}, {"prompt_tokens": -1, "completion_tokens": "many"}, "x"]
)
def test_usage_that_is_none_is_not_known(usage):
    body = json.dumps(reply(["a"]) | {"usage": usage}).encode()
    with Server(raw(body)) as server:
        (found,), _ = ask(server, tokens_per_minute=9)
    assert (texts(found), found.input_tokens, found.output_tokens) == (["a"], None, None)


def test_no_more_calls_are_in_flight_than_allowed():
    with Server(slow(0.05)) as server:
        found, _ = ask(server, times=20, concurrency=3)
    assert len(found) == 20
    assert server.most_in_flight == 3


class Noted(WindowLimit):
    """Lets all through and notes what was taken; when it may be is `test_limits.py`'s."""

    def __init__(self, most):
        super().__init__(None)
        self.limit, self.asked, self.taken = most, [], []

    async def take(self, amount=1.0):
        self.asked.append(amount)
        self.taken.append(await super().take(amount))
        return self.taken[-1]


@pytest.fixture
def noted(monkeypatch):
    monkeypatch.setattr(client_module, "WindowLimit", Noted)


def test_each_attempt_takes_of_the_rate_before_it_is_sent(noted):
    """Retries, too."""
    with Server(fails(500), fails(500), answers) as server:
        _, model = ask(server, times=13, requests_per_minute=5, attempt_s=60.0, deadline_s=120.0)
    requests = model._requests
    assert requests.limit == 5
    assert requests.asked == [1.0] * 15
    assert len(server.arrived_s) == 15
    taken_s = sorted(taken.at_s for taken in requests.taken)
    assert all(a <= b for a, b in zip(taken_s, server.arrived_s, strict=True))


def test_tokens_are_guessed_until_it_is_known_what_a_call_takes(noted):
    """The first is what its text and its limit allow; each is corrected to what it was."""
    with Server(answers) as server:
        options = {"concurrency": 1, "attempt_s": 60.0, "deadline_s": 120.0}
        _, model = ask(server, times=7, tokens_per_minute=45, **options)  # 15 tokens each
    tokens = model._tokens
    assert tokens.limit == 45
    assert tokens.asked == [pytest.approx(len(CHAT[0]["content"]) / 3 + 64)] + [15.0] * 6
    assert [taken.amount for taken in tokens.taken] == [15.0] * 7


def test_a_ceiling_is_not_broken(tmp_path):
    """15 dollars a call: the sixth would be the 90th."""
    prices = tmp_path / "prices.yaml"
    prices.write_text("m: {input: 1.0e+6, output: 1.0e+6}")
    with Server(slow(0.02)) as server:
        found, model = ask(server, times=12, prices=str(prices), max_cost=80.0)
    assert model.meter.spent == 75.0
    assert len(server.asked) == 5
    assert sum(isinstance(error, BudgetReached) for error in found) == 7
    assert "spent 75.0000 of endpoint.max_cost 80.0: the next call may cost 15.0000" in str(
        next(error for error in found if isinstance(error, BudgetReached))
    )


def test_no_key_leaves_the_environment(monkeypatch, caplog):
    """Neither in a message, which may be the server's own echo, nor in a log."""
    monkeypatch.setenv("MY_KEY", "sk-secret")
    caplog.set_level(logging.DEBUG)

    def echo(handler, asked):
        said = f'{{"error": {{"message": "bad {handler.headers["Authorization"]}"}}}}'
        fails(400, body=said.encode())(handler, asked)

    with Server(echo) as server:
        (error,), _ = ask(server, api_key_env="MY_KEY")
    assert server.headers[0]["authorization"] == "Bearer sk-secret"
    assert "bad Bearer ***" in str(error)
    assert "sk-secret" not in caplog.text
    with Server(raw(b"sk-secret")) as server:
        (error,), _ = ask(server, api_key_env="MY_KEY", deadline_s=0.2)
    assert "sk-secret" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


def test_a_reply_that_holds_the_key_is_kept_without_it(monkeypatch):
    """What is cut for a message is cut behind that, and a pool gets no half of it either."""
    monkeypatch.setenv("MY_KEY", "sk-secret")
    with Server(says("you are sk-secret, I am not")) as server:
        (found,), _ = ask(server, api_key_env="MY_KEY")
    assert texts(found) == ["you are ***, I am not"]
    for padding in range(60, 110):
        body = json.dumps({"choices": "x" * padding + "sk-secret"}).encode()
        model = ServedModel(EndpointConfig("http://h/v1", "m", api_key_env="MY_KEY"))
        with pytest.raises(client_module._Again) as again:
            model._read(body, 1)
        assert "sk-s" not in str(again.value)


def test_what_is_billed_counts_whether_it_can_be_used_or_not(tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("m: {input: 1.0e+6, output: 0}")
    with Server(
        says(""), raw(b'{"choices": 3, "usage": {"prompt_tokens": 10}}'), answers
    ) as server:
        (found,), model = ask(server, prices=str(prices))
    assert texts(found) == ["text 0 of 7"]
    assert model.meter.spent == 30.0


@pytest.mark.parametrize("reason", [None, 3, "\ud800"])
def test_a_finish_reason_that_no_pool_can_hold_is_unknown(reason):
    body = reply(["a"])
    body["choices"][0]["finish_reason"] = reason
    with Server(raw(json.dumps(body).encode())) as server:
        (found,), _ = ask(server)
    assert found.choices[0].finish_reason == "unknown"


def test_a_ceiling_needs_to_know_what_was_used(tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("m: {input: 1.0, output: 1.0}")
    body = json.dumps(reply(["a"]) | {"usage": None}).encode()
    with Server(raw(body)) as server:
        (error,), _ = ask(server, prices=str(prices), max_cost=1.0)
    assert type(error) is EndpointFailed
    assert "endpoint.max_cost cannot be kept" in str(error)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_key_env": "NOT_SET"}, "environment variable 'NOT_SET' is not set"),
        ({"base_url": "http://user:pw@host/v1"}, "without a user"),
        ({"base_url": "http://host/v1?key=x"}, "without a user"),
        ({"base_url": "host:8000"}, "expected http"),
        ({"concurrency": 0}, "endpoint.concurrency: expected 1 or more, got 0"),
        ({"requests_per_minute": 0}, "endpoint.requests_per_minute"),
        ({"attempt_s": 0.0}, "endpoint.attempt_s"),
        ({"deadline_s": float("nan")}, "endpoint.deadline_s"),
        ({"max_cost": 1.0}, "endpoint.max_cost needs endpoint.prices"),
        ({"prices": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_kept_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ServedModel(EndpointConfig(**{"base_url": "http://h/v1", "model": "m", **options}))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[]", "no entry 'm', only list"),
        ("other: {input: 1, output: 2}", r"no entry 'm', only \['other'\]"),
        ("m: {input: 1}", "must have input and output"),
        ("m: {input: 1, output: -2}", "must have input and output"),
        ("m: {input: 1, output: .nan}", "must have input and output"),
        ("m: {input: 1, output: yes}", "must have input and output"),
        ("m: [", "cannot be read"),
    ],
)
def test_a_table_of_prices_that_is_none_is_refused(tmp_path, table, said):
    prices = tmp_path / "prices.yaml"
    prices.write_text(table)
    with pytest.raises(ValueError, match=said):
        ServedModel(EndpointConfig("http://h/v1", "m", prices=str(prices)))
