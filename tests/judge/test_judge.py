import json
import re

import pytest

from lit_vdistill.judge.cache import CachedJudge
from lit_vdistill.judge.judge import Judge, JudgeCase
from lit_vdistill.judge.prompt import judge_messages, read_feedback
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.judge.shuffled import ShuffledJudge
from lit_vdistill.judge.wrong import WrongJudge
from lit_vdistill.rewards import (
    Answer,
    AnswerBox,
    AnswerTime,
    ThinkPoint,
    ThinkSegment,
    ThinkSpace,
    reward_breakdown,
)

REWARDS = [Answer(), AnswerTime(), AnswerBox(), ThinkSegment(), ThinkPoint(), ThinkSpace()]
FULL = "<think>t</think><answer>B</answer>"


@pytest.fixture
def case(make_sample):
    def build(text=FULL, task="temporal_mcq", **parts):
        return JudgeCase(make_sample(task), text, parts, dict.fromkeys(parts, 1.0))

    return build


def said(text, sample, rewards=REWARDS):
    """What the rule judge says about a response, its scores by the verifier."""
    parts = reward_breakdown(rewards, text, sample)
    (feedback,) = RuleJudge().diagnose([JudgeCase.scored(sample, text, rewards, parts)])
    return feedback


ON_TRACK = "The reasoning is mostly on the right track, but the answer drifts from it."
DIAGNOSES = [
    ("mcq", "B", "red", "B", "The final answer is correct, and the reasoning supports it."),
    ("mcq", "B", "red", "A", "The final answer is wrong. The option should be B."),
    ("numerical", "3", "red", "4", "The final answer is wrong. The answer should be 3."),
    (
        "temporal_grounding", "x", "at <t>3.0</t>s", "From <t>4.0</t>s to <t>8.0</t>s",
        "The final answer is partly correct. The start is 2.0 s too late, the end is right. "
        f"{ON_TRACK}",
    ),
    (
        "temporal_grounding", "x", "at <t>9.5</t>s", "From <t>2.0</t>s to <t>8.0</t>s",
        "The final answer is correct, but the reasoning hardly supports it. "
        "The reasoning looks 1.5 s too late.",
    ),
    (
        "temporal_mcq", "B", "at <t>3.0</t>s",
        "From <t>1.0</t>s to <t>8.0</t>s\nCorrect Option: C",
        "The final answer is partly correct. The option should be B. "
        f"The start is 1.0 s too early, the end is right. {ON_TRACK}",
    ),
    (
        "spatial_grounding", "dog", "<box>[0,0,100,100]</box>",
        "<obj>dog</obj><box>[0,50,100,150]</box>",
        "The final answer is partly correct. The box is off: top 50 too low, "
        f"bottom 50 too low. {ON_TRACK}",
    ),
    (
        "spatio_temporal_qa", "a dog runs left", "<obj>dog</obj><box>[0,0,100,100]</box>",
        "a dog runs left",
        "The final answer is correct, but the reasoning hardly supports it. "
        "The reasoning names no time.",
    ),
    (
        "open_ended", "a red dog at the left", "red", "a blue dog at the left",
        "The final answer is partly correct. Missing: red. Words that do not belong: 1.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("task", "truth", "think", "answer", "feedback"), DIAGNOSES)
def test_rule_judge_names_the_values_that_are_off(
    make_sample, task, truth, think, answer, feedback
):
    """The segment is 2 s to 8 s, the box [0, 0, 100, 100] at 3 s."""
    text = f"<think>{think}</think><answer>{answer}</answer>"
    assert said(text, make_sample(task, truth)) == feedback


def test_rule_judge_says_by_how_much_a_key_time_is_missed_and_where_a_box_lies(make_sample):
    sample = make_sample("spatio_temporal_qa", "a dog")
    late = "<obj>dog</obj><box>[0,0,100,100]</box>at<t>3.5</t>s <t>9.0</t>s <t>9.0</t>s"
    narrow = [Answer(), ThinkPoint(sigma_s=0.5)]
    text = f"<think>{late}</think><answer>a dog</answer>"
    assert "looks 6.0 s too late." in said(text, sample, narrow)
    far = "<think><obj>dog</obj><box>[90,0,190,100]</box>at<t>3.0</t>s</think>"
    assert (
        "The box of the reasoning is off: left edge 90 too far right, "
        "right edge 90 too far right." in said(f"{far}<answer>a dog</answer>", sample)
    )


@pytest.mark.parametrize(
    ("task", "truth", "answer"),
    [
        ("mcq", "B", "A"),
        ("numerical", "3", "4"),
        ("temporal_grounding", "x", "From <t>1.5</t>s to <t>9.5</t>s"),
        ("spatial_grounding", "dog", "<box>[17,50,119,151]</box>"),
        ("open_ended", "a red dog", "one green cat"),
    ],
)
def test_rule_judge_repeats_no_value_that_is_wrong(make_sample, task, truth, answer):
    """A network that reads it would find it more probable."""
    think = "<t>9.5</t>s <obj>dog</obj><box>[17,50,119,151]</box>"
    feedback = said(f"<think>{think}</think><answer>{answer}</answer>", make_sample(task, truth))
    words = set(re.findall(r"\w+(?:\.\d)?", feedback.replace("The final answer", "")))
    assert not words & {"A", "4", "9.5", "119", "151", "one", "green", "cat"}


def test_rule_judge_says_what_is_missing(make_sample):
    assert "No final answer was produced" in said("<think>and so on", make_sample())
    bare = "<think>t</think><answer>there</answer>"
    assert "It names no time span." in said(bare, make_sample("temporal_grounding"))
    assert "It names no box." in said(bare, make_sample("spatial_grounding"))
    assert isinstance(RuleJudge(), Judge)


def test_a_shuffled_judge_tells_no_case_what_is_about_itself(case):
    """But every case gets what is about some other one, the same one in the same call."""
    cases = [case(str(number)) for number in range(7)]

    class Echo:
        identity = "echo"

        def diagnose(self, cases):
            return [case.text for case in cases]

    judge = ShuffledJudge(Echo())
    assert isinstance(judge, Judge)
    found = judge.diagnose(cases)
    assert sorted(found) == [case.text for case in cases]
    assert all(told != case.text for told, case in zip(found, cases, strict=True))
    assert judge.diagnose(cases) == found
    assert ShuffledJudge(Echo(), seed=1).diagnose(cases) != found
    assert ShuffledJudge(Echo(), seed=1).identity != judge.identity
    assert judge.diagnose(cases[:1]) == [None]
    assert judge.diagnose([]) == []


def test_a_wrong_judge_calls_right_what_is_wrong_and_corrects_what_is_right(make_sample):
    """Neither to the truth nor to a letter that is no option; boxes and spans as well."""
    tasks = [("mcq", "B"), ("numerical", "3"), ("mcq", "A"), ("mcq", "Z"), ("ocr", "x")]
    samples = [make_sample(task, answer) for task, answer in tasks]
    right, wrong = ["B", "3", "A", "Z", "x"], ["A", "4", "B", "B", "y"]

    def diagnosed(answers):
        texts = [f"<think>t</think><answer>{answer}</answer>" for answer in answers]
        cases = [
            JudgeCase.scored(sample, text, REWARDS, reward_breakdown(REWARDS, text, sample))
            for sample, text in zip(samples, texts, strict=True)
        ]
        return WrongJudge(RuleJudge()).diagnose(cases)

    assert diagnosed(wrong) == ["The final answer is correct, and the reasoning supports it."] * 5
    assert diagnosed(right) == [
        "The final answer is wrong. The option should be A.",
        "The final answer is wrong. The answer should be 3.",  # nobody else counts
        "The final answer is wrong. The option should be B.",
        "The final answer is wrong. The option should be B.",
        "The final answer is wrong. The answer should be x.",
    ]
    assert isinstance(WrongJudge(RuleJudge()), Judge)
    assert WrongJudge(RuleJudge()).identity != RuleJudge().identity


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
    told = json.loads(evidence.partition(": ")[2])
    assert (told["segments_s"], told["key_times_s"]) == ([[2.0, 8.0]], [3.0])
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
