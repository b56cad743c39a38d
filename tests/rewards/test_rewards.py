from dataclasses import replace

import pytest

from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import (
    Content,
    OuterFormat,
    Reward,
    TaskFormat,
    answer_quality,
    composite_reward,
    reward_breakdown,
    rule_score,
)
from lit_vdistill.tasks import Task
from lit_vdistill.tasks.closed import epsilon_accuracy
from lit_vdistill.types import Rollout


def respond(answer):
    return parse_response(f"<think>t</think>\n<answer>{answer}</answer>")


@pytest.mark.parametrize(
    ("task", "truth", "answer", "quality"),
    [
        ("mcq", "B", "B", 1.0),
        ("mcq", "B", "(B)", 1.0),
        ("mcq", "B", "A", 0.0),
        ("mcq", "B", "b", 0.0),
        ("binary", "yes", "Yes", 1.0),
        ("binary", "yes", "no", 0.0),
        ("binary", "yes", "perhaps", 0.0),
        ("numerical", "3", "3.0", 1.0),
        ("numerical", "200", "201", 1.0),
        ("numerical", "200", "203", 0.0),
        ("numerical", "3", "three", 0.0),
        ("ocr", "EXIT 7", "EXIT 7", 1.0),
        ("ocr", "EXIT 7", "EXIT 1", 0.5),
        ("ocr", "EXIT", "a b c d", 0.0),
        ("temporal_grounding", "-", "From <t>4</t>s to <t>10</t>s", 0.5),
        ("temporal_grounding", "-", "4 to 10", 0.0),
        ("temporal_mcq", "B", "From <t>4</t>s to <t>10</t>s.\nCorrect Option: B", 0.75),
        ("temporal_mcq", "B", "From <t>4</t>s to <t>10</t>s.\nCorrect Option: A", 0.25),
        ("temporal_mcq", "B", "B", 0.0),
        ("spatial_grounding", "dog", "<obj>dog</obj><box>[0,0,100,50]</box>", 0.5),
        ("spatial_grounding", "dog", "<box>[0,0,100]</box>", 0.0),
    ],
)
def test_answer_quality_by_hand(make_sample, task, truth, answer, quality):
    assert answer_quality(respond(answer), make_sample(task, truth)) == pytest.approx(quality)


def test_an_invalid_envelope_scores_nothing_however_right_the_answer(make_sample):
    right = parse_response("<answer>B</answer>")
    assert answer_quality(right, make_sample()) == 0.0


def test_open_ended_tasks_have_no_metric_and_no_content_reward(make_sample):
    for task in ("open_ended", "spatio_temporal_qa"):
        sample = make_sample(task, "a dog runs")
        assert Content()(respond("a dog runs"), sample) == 0.0
        with pytest.raises(ValueError, match="open-ended"):
            answer_quality(respond("a dog runs"), sample)


def test_task_format_is_about_syntax_only(make_sample):
    right = {
        "mcq": "A",
        "binary": "no",
        "numerical": "7",
        "ocr": "x",
        "temporal_grounding": "<t>1</t> to <t>2</t>",
        "temporal_mcq": "<t>1</t>s to <t>2</t>s. Correct Option: A",
        "spatial_grounding": "<box>[1,1,2,2]</box>",
        "spatio_temporal_grounding": '{"3": [1, 1, 2, 2]}',
        "spatio_temporal_qa": "x",
        "open_ended": "x",
    }
    assert set(right) == set(Task)
    for task, answer in right.items():
        sample = make_sample(task)
        assert TaskFormat()(respond(answer), sample) == 1.0
        assert TaskFormat()(respond(""), sample) == 0.0


def test_composite_is_the_weighted_sum_of_equation_6(make_sample):
    rewards = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
    sample = make_sample("temporal_grounding")
    parts = reward_breakdown(
        rewards, "<think>t</think><answer>From <t>4</t>s to <t>10</t>s</answer>", sample
    )
    assert parts == {"outer": 1.0, "task": 1.0, "content": 0.5}
    assert composite_reward(rewards, parts) == pytest.approx(0.1 + 0.1 + 0.2)
    assert rule_score(rewards, parts, sample) == pytest.approx(0.4 / 0.6)


@pytest.mark.parametrize("task", ["open_ended", "spatio_temporal_qa", "mcq"])
def test_a_perfect_response_has_all_of_its_maximum(make_sample, task):
    """`Content` pays open-ended tasks nothing, so it is not in what they could earn."""
    rewards = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
    sample = make_sample(task, "B")
    parts = reward_breakdown(rewards, "<think>t</think><answer>B</answer>", sample)
    assert rule_score(rewards, parts, sample) == pytest.approx(1.0)


def test_there_is_no_share_of_nothing(make_sample):
    for rewards in ([], [OuterFormat(0.0), Content(0.4)]):
        parts = reward_breakdown(rewards, "x", make_sample("open_ended"))
        assert rule_score(rewards, parts, make_sample("open_ended")) is None


def test_epsilon_is_relative_beyond_one():
    assert epsilon_accuracy(1000.0, 1009.0, 0.01) == 1.0
    assert epsilon_accuracy(0.0, 0.02, 0.01) == 0.0


class Brevity(Reward):
    """Half for coming to an end, half for doing so within four tokens."""

    name = "brevity"

    def __call__(self, response, sample):
        rollout = response.rollout
        if rollout is None or rollout.is_truncated:
            return 0.0
        return 1.0 if len(rollout.completion_ids) <= 4 else 0.5


def test_a_reward_may_see_the_whole_rollout(make_sample):
    text = "<think>t</think><answer>B</answer>"
    rollout = Rollout("s1", 0, (1, 2, 3), (0.0,) * 3, text, False, 1.0)
    rewards = [Brevity(), Content()]
    scores = [
        reward_breakdown(rewards, each, make_sample())
        for each in (
            rollout,
            replace(rollout, completion_ids=(1,) * 5),
            replace(rollout, is_truncated=True),
            text,
        )
    ]
    assert [parts["brevity"] for parts in scores] == [1.0, 0.5, 0.0, 0.0]
    # What reads the text alone sees the same in all of them.
    assert [parts["content"] for parts in scores] == [1.0] * 4


def test_two_rewards_of_a_class_stand_in_one_list_under_names_of_their_own(make_sample):
    strict, lax = Content(0.4), Content(0.2, epsilon=0.1, name="near")
    sample = make_sample("numerical", "100")
    parts = reward_breakdown([strict, lax], "<think>t</think><answer>109</answer>", sample)
    assert parts == {"content": 0.0, "near": 1.0}
    assert composite_reward([strict, lax], parts) == pytest.approx(0.2)
    assert Content().name == "content"
