import logging
import time
from threading import Event

import pytest

from lit_vdistill.judge.call import JudgeCall
from lit_vdistill.judge.judge import JudgeCase


class Says:
    """A judge that does what it is given."""

    identity = "test"

    def __init__(self, does):
        self.diagnose = does


def fail(error):
    raise error


@pytest.fixture
def cases(make_sample):
    return [JudgeCase(make_sample(), text) for text in ("a", "b", "c")]


def test_a_sound_judge_is_heard(cases):
    call = JudgeCall(Says(lambda asked: [case.text for case in asked]), cases, 10.0)
    assert call.result() == call.result() == ["a", "b", "c"]


def test_nobody_is_asked_about_nothing():
    assert JudgeCall(Says(lambda asked: 1 / 0), [], 10.0).result() == []


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (lambda asked: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda asked: exit(3), "SystemExit: 3"),
        (
            lambda asked: (_ for _ in ()).throw(TimeoutError("of its own")),
            "TimeoutError: of its own",
        ),
        (lambda asked: ["a"], "expected 3 answers, got 1"),
        (lambda asked: ["a"] * 4, "expected 3 answers, got 4"),
        (lambda asked: "abc", "expected 3 answers, got str"),
        (lambda asked: None, "expected 3 answers, got NoneType"),
    ],
)
def test_a_judge_that_misbehaves_has_failed_on_all(cases, caplog, does, reason):
    with caplog.at_level(logging.WARNING):
        assert JudgeCall(Says(does), cases, 10.0).result() == [None] * 3
    assert reason in caplog.text
    assert "for 3 rollouts" in caplog.text


@pytest.mark.parametrize("answer", ["", " \n", 7, None, "half \ud800 a pair", b"bytes", ["text"]])
def test_what_is_no_text_has_failed_alone(cases, answer):
    assert JudgeCall(Says(lambda asked: ["x", answer, "y"]), cases, 10.0).result() == [
        "x",
        None,
        "y",
    ]


def test_a_judge_that_hangs_is_waited_for_until_the_deadline(cases, caplog):
    hanging = Event()
    began = time.monotonic()
    call = JudgeCall(Says(lambda asked: hanging.wait(30.0)), cases, 0.2)
    with caplog.at_level(logging.WARNING):
        assert call.result() == [None] * 3
    assert time.monotonic() - began < 10.0
    assert "no answer within 0.2 s (judge_timeout_s)" in caplog.text
    hanging.set()
