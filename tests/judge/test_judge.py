import json

import pytest

from lit_vdistill.judge.cache import CachedJudge
from lit_vdistill.judge.judge import Judge, JudgeCase
from lit_vdistill.judge.prompt import judge_messages, read_feedback
from lit_vdistill.judge.rule_judge import RuleJudge

FULL = "<think>t</think><answer>B</answer>"


@pytest.fixture
def case(make_sample):
    def build(text=FULL, task="temporal_mcq", **parts):
        return JudgeCase(make_sample(task), text, parts, dict.fromkeys(parts, 1.0))

    return build


def test_rule_judge_names_answer_reasoning_and_one_cause(case):
    cases = {
        "supports it": case(answer=1.0, think_segment=1.0),
        "hardly supports it. The reasoning looks at the wrong time.": case(
            answer=1.0, think_segment=0.0
        ),
        "wrong: the answer is off. The reasoning looks at the wrong place.": case(
            answer=0.0, think_segment=1.0, think_space=0.1
        ),
        "partly correct: the time span is off. The reasoning is mostly on the right track": case(
            answer=1.0, answer_time=0.2, think_segment=0.9
        ),
        "wrong: the answer is off. The reasoning is too broad": case(answer=0.0),
        "No final answer was produced": case(text="<think>and so on", answer=0.0),
    }
    assert isinstance(RuleJudge(), Judge)
    for expected, feedback in zip(cases, RuleJudge().diagnose(list(cases.values())), strict=True):
        assert expected in feedback


class Counting:
    """Fails on the first call about a text that says so."""

    def __init__(self, identity="one model"):
        self.identity, self.asked = identity, []

    def diagnose(self, cases):
        self.asked += [c.text for c in cases]
        return [None if c.text == "fail" and self.asked.count("fail") == 1 else "ok" for c in cases]


def test_feedback_is_asked_for_once_and_survives_the_run(case, tmp_path):
    path = str(tmp_path / "judge" / "feedback.jsonl")
    inner = Counting()
    judge = CachedJudge(inner, path)
    one, other = case("one", answer=1.0), case("two", answer=1.0)
    assert judge.diagnose([one, other, one]) == ["ok", "ok", "ok"]
    assert judge.diagnose([other]) == ["ok"]
    assert inner.asked == ["one", "two"]
    again = Counting()
    assert CachedJudge(again, path).diagnose([one, case("three", answer=1.0)]) == ["ok", "ok"]
    assert again.asked == ["three"]
    another = Counting("another model")
    CachedJudge(another, path).diagnose([one])
    assert another.asked == ["one"]


def test_a_failure_is_not_remembered(case):
    judge = CachedJudge(Counting())
    assert judge.diagnose([case("fail")]) == [None]
    assert judge.diagnose([case("fail")]) == ["ok"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"key"', "not JSON"),
        ('{"key": "c"}', ".*delete the line"),
        ('{"key": "c", "feedback": 3}', ".*delete the line"),
    ],
)
def test_a_broken_cache_names_its_line(tmp_path, line, reason):
    path = tmp_path / "feedback.jsonl"
    path.write_text(f'{{"key": "a", "feedback": "b\u2028"}}\n{line}\n')
    with pytest.raises(ValueError, match=rf"feedback\.jsonl, line 2: {reason}"):
        CachedJudge(RuleJudge(), str(path))


def test_the_prompt_holds_truth_evidence_and_response(case):
    system, user = judge_messages(case())
    assert '"feedback"' in system["content"]
    for part in ("Task: temporal_mcq", "What?", "B. dog", "Reference answer: B", FULL):
        assert part in user["content"]
    evidence = next(line for line in user["content"].splitlines() if line.startswith("Hidden"))
    assert json.loads(evidence.partition(": ")[2])["segments_s"] == [[2.0, 8.0]]
    assert "no final answer was produced" not in system["content"]
    assert "no final answer was produced" in judge_messages(case("<think>a"))[0]["content"]


def test_replies_are_strict_json():
    assert read_feedback(' {"feedback": " good "} ') == "good"
    replies = ("good", '{"feedback": ""}', '{"feedback": "a", "score": 1}', "[]", "[" * 5000)
    for reply in replies:
        with pytest.raises(ValueError, match="the judge's"):
            read_feedback(reply)


def test_the_cache_keeps_nothing_that_is_no_text(tmp_path, case):
    class Odd:
        identity = "odd"

        def diagnose(self, cases):
            return ["fine", "", 7, "\ud800"][: len(cases)]

    path = tmp_path / "feedback.jsonl"
    judge = CachedJudge(Odd(), str(path))
    cases = [case(text=text) for text in "abcd"]
    assert judge.diagnose(cases) == ["fine", None, None, None]
    assert CachedJudge(Odd(), str(path)).known.keys() == judge.known.keys()
    assert len(judge.known) == 1
