"""A served judge and a served rater, against a server that misbehaves."""

import copy
import json
import pickle
import threading

import pytest

from lit_vdistill.__main__ import main
from lit_vdistill.judge.call import JudgeCall
from lit_vdistill.judge.judge import Judge, JudgeCase
from lit_vdistill.judge.prompt import read_feedback_leniently
from lit_vdistill.judge.rating import read_rating
from lit_vdistill.judge.served_judge import OpenAIJudge, OpenAIRater, Replies
from lit_vdistill.judge.verdict import verdict_of
from lit_vdistill.readers.records import write_records
from lit_vdistill.served.endpoint import EndpointConfig
from lit_vdistill.types import Evidence
from tests.served.misbehaving_server import Server, fails, says, slow

GOOD = '{"feedback": "The answer is wrong."}'
FULL = "<think>t</think><answer>B</answer>"


@pytest.fixture
def cases(make_sample):
    return [JudgeCase(make_sample(id=f"s{i}"), FULL) for i in range(4)]


def judge_of(server, **told):
    endpoint = EndpointConfig(server.url, "m", attempt_s=2.0, deadline_s=3.0)
    return OpenAIJudge(endpoint, Replies(**told))


def test_every_case_is_asked_about_at_the_same_time(cases):
    together = threading.Barrier(4)

    def behave(handler, asked):
        if len(server.asked) <= 4:
            together.wait(1.5)  # breaks where they come one by one
        says(GOOD)(handler, asked)

    with Server(behave) as server:
        judge = judge_of(server)
        assert isinstance(judge, Judge)
        assert judge.diagnose(cases) == ["The answer is wrong."] * 4
        assert server.most_in_flight == 4
        assert judge.diagnose([]) == []
        assert judge.diagnose(cases[:1]) == ["The answer is wrong."]  # the thread goes on
    assert judge.counts == {"read": 5, "json": 5}
    (asked,) = {json.dumps(a["messages"][0]) for a in server.asked}
    assert "You grade how a student model answered" in asked
    assert (server.asked[0]["temperature"], server.asked[0]["max_tokens"]) == (0.0, 256)
    assert "top_p" not in server.asked[0]


def test_a_server_that_refuses_to_be_told_is_not(cases):
    with Server(says(GOOD)) as server:
        endpoint = EndpointConfig(server.url, "m", limit_key="max_completion_tokens")
        OpenAIJudge(endpoint, Replies(temperature=None)).diagnose(cases[:1])
    (asked,) = server.asked
    assert set(asked) == {"model", "messages", "n", "max_completion_tokens"}


def test_a_reply_is_repaired_once(cases):
    with Server(says("It is wrong."), says(GOOD)) as server:
        judge = judge_of(server)
        assert judge.diagnose(cases[:1]) == ["The answer is wrong."]
    assert judge.counts == {"repaired": 1}
    first, second = (asked["messages"] for asked in server.asked)
    assert second[: len(first)] == first
    assert [turn["role"] for turn in second[len(first) :]] == ["assistant", "user"]
    assert second[-2]["content"] == "It is wrong."
    with Server(says("It is wrong.")) as server:
        judge = judge_of(server)
        assert judge.diagnose(cases[:1]) == [None]
    assert judge.counts == {"unreadable": 1}
    assert len(server.asked) == 2


def test_leniently_whatever_is_said_is_feedback(cases):
    with Server(says("It is wrong.")) as server:
        judge = judge_of(server, reading="lenient")
        assert judge.diagnose(cases[:1]) == ["It is wrong."]
    assert len(server.asked) == 1
    assert +judge.counts == {"read": 1}


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ('{"feedback": "a  b"}', "a b"),
        ('```json\n{"feedback": "a"}\n```', "a"),
        ('Here: {"feedback": "a", "score": 3} done', "a"),
        ("no JSON  at all", "no JSON at all"),
        ('{"feedback": "None."}', '{"feedback": "None."}'),
        ('{"feedback": 3}', '{"feedback": 3}'),
        ("{" * 5000, "{" * 1000),
        ('{"feedback": "' + "x" * 3000 + '"}', "x" * 1000),
        ("[1]", "[1]"),
    ],
)
def test_replies_are_read_as_the_release_reads_them(reply, read):
    assert read_feedback_leniently(reply) == read


def test_an_empty_reply_is_none():
    with pytest.raises(ValueError, match="empty"):
        read_feedback_leniently(" \n")


def test_what_is_late_or_fails_is_counted_and_the_others_count(cases, caplog):
    def behave(handler, asked):
        number = len(server.asked)
        if number == 1:
            fails(400)(handler, asked)
        elif number == 2:
            slow(3.0)(handler, asked)
        else:
            says(GOOD)(handler, asked)

    with Server(behave) as server:
        judge = judge_of(server, budget_s=1.0)
        told = judge.diagnose(cases)
    assert sorted(map(str, told)) == [
        "None",
        "None",
        "The answer is wrong.",
        "The answer is wrong.",
    ]
    assert judge.counts == {"read": 2, "json": 2, "failed": 1, "late": 1}
    assert "of 4 cases" in caplog.text


def test_a_server_that_dies_leaves_a_run_its_fallback(cases, monkeypatch):
    with Server(says(GOOD)) as server:
        judge = judge_of(server)
        assert JudgeCall(judge, cases, 5.0).result() == ["The answer is wrong."] * 4
    assert JudgeCall(judge, cases, 10.0).result() == [None] * 4
    assert judge.counts == {"read": 4, "json": 4, "failed": 4}


def test_it_can_be_copied_and_sent_to_another_process(cases):
    with Server(says(GOOD)) as server:
        judge = judge_of(server)
        judge.diagnose(cases[:1])
        for other in (copy.deepcopy(judge), pickle.loads(pickle.dumps(judge))):
            assert other.identity == judge.identity
            assert other.diagnose(cases[:1]) == ["The answer is wrong."]


def test_its_identity_changes_with_what_its_answers_depend_on():
    endpoint = EndpointConfig("http://h/v1", "m")
    told = [Replies(), Replies(temperature=1.0), Replies(max_tokens=9), Replies(reading="lenient")]
    assert len({OpenAIJudge(endpoint, one).identity for one in told}) == 4
    other = EndpointConfig("http://h/v1", "other")
    more = EndpointConfig("http://h/v1", "m", extra_body={"top_k": 5})
    assert len({OpenAIJudge(one).identity for one in (endpoint, other, more)}) == 3


@pytest.mark.parametrize(
    ("reply", "rating"),
    [("3", 3), ("Rating: 2.", 2), ("0", 0), ("4", None), ("1 or 2", None), ("2 2", 2), ("", None),
     ("2.5", None), ("12", None)],
)  # fmt: skip
def test_a_rating_is_one_digit(reply, rating):
    assert read_rating(reply) == rating


def test_a_rater_asks_once_and_keeps_what_was_said(tmp_path):
    path = tmp_path / "ratings.jsonl"
    asked = [("What?", "a dog", "a dog"), ("What?", "a dog", "a cat"), ("What?", "a dog", "a dog")]

    def behave(handler, given):
        same = "Answer: a dog" in given["messages"][1]["content"]
        says("3" if same else "none")(handler, given)

    with Server(behave) as server:
        endpoint = EndpointConfig(server.url, "m", attempt_s=2.0, deadline_s=2.0)
        assert OpenAIRater(endpoint, str(path)).rate(asked) == [3, None, 3]
        assert len(server.asked) == 2
        assert OpenAIRater(endpoint, str(path)).rate(asked[:1]) == [3]
        assert len(server.asked) == 2
    path.write_text(path.read_text() + '{"key": "x", "rating": 7}\n')
    with pytest.raises(ValueError, match=r"ratings.jsonl, line 2: expected an object"):
        OpenAIRater(endpoint, str(path))


@pytest.mark.parametrize(
    ("feedback", "said"),
    [
        ("The final answer is correct, and the reasoning supports it.", "right"),
        ("The final answer is partly correct.", "partly"),
        ("The final answer is wrong. The option should be B.", "wrong"),
        ("The answer is not correct.", "wrong"),
        ("It isn't right.", "wrong"),
        ("The student says B. That is incorrect.", "wrong"),
        ("No final answer was produced.", "wrong"),
        ("Look at the left.", "unclear"),
        ("", "unclear"),
    ],
)
def test_verdicts_in_words(feedback, said):
    assert verdict_of(feedback) == said


def test_the_rule_judge_agrees_with_the_verifier(tmp_path, make_sample, capsys):
    bare = {"evidence": Evidence()}
    samples = [make_sample("mcq", "B", id="a", **bare), make_sample("mcq", "A", id="b", **bare)]
    write_records(tmp_path / "train.jsonl", samples)
    worth = {"a": 1.0, "b": 0.0, "z": 0.0}
    rows = [{"sample": n, "response": FULL, "reward/answer": w} for n, w in worth.items()]
    (tmp_path / "rollouts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    common = ["--train_path", f"{tmp_path}/train.jsonl", "--rollouts_path"]
    judge = ["--judge", "lit_vdistill.judge.rule_judge.RuleJudge"]
    main(["judge", "check", *judge, *common, f"{tmp_path}/rollouts.jsonl"])
    said = capsys.readouterr().out
    assert "2 of 2 rollouts have feedback" in said
    assert "agreement where both say right or wrong: 2 of 2 (1.00)" in said
    with pytest.raises(SystemExit, match="rollouts_path nowhere.jsonl does not exist"):
        main(["judge", "check", *judge, *common, "nowhere.jsonl"])
    (tmp_path / "bad.jsonl").write_text('{"sample": "a"}\n')
    with pytest.raises(SystemExit, match=r"bad.jsonl, line 1: no rollout"):
        main(["judge", "check", *judge, *common, f"{tmp_path}/bad.jsonl"])
