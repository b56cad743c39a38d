import warnings
from dataclasses import replace

import pytest

from lit_vdistill.pool.quality import answer_score
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.stages.validation import Validation
from lit_vdistill.types import Facts, Rollout

WORDS = {"colour": ("red", "blue"), "shape": ("disc", "cross")}
RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>t</think><answer>A</answer>"


def rollout(text):
    return Rollout("s1", 0, (1,), (0.0,), text, False, 1.0)


def test_report_by_hand(make_sample):
    validation = Validation([OuterFormat(0.5), Content(0.5)], num_samples=2)
    sample = make_sample("mcq", "B")
    worth = validation.update(sample, rollout(RIGHT), [rollout(RIGHT), rollout(WRONG)])
    assert worth == {"score": 1.0, "format_rate": 1.0, "mean_at_2": 0.5, "reward": 0.75}
    span = "<think>t</think><answer>From <t>4</t>s to <t>10</t>s</answer>"
    validation.update(make_sample("temporal_grounding"), rollout(span), [rollout("junk")] * 2)
    report = validation.compute()
    assert report["score"] == 0.75
    assert report["score/mcq"] == 1.0
    assert report["mean_at_2"] == 0.25
    assert report["mean_at_2/mcq"] == 0.5
    assert report["reward/mcq"] == 0.75
    assert report["reward"] == 0.375
    assert report["reward_part/outer"] == 0.5
    assert report["tIoU"] == 0.5
    assert [report[f"R@{m}"] for m in (0.3, 0.5, 0.7)] == [1.0, 1.0, 0.0]
    assert report["format_rate"] == 1.0
    assert "box_iou" not in report
    counts = validation.num_samples()
    assert counts.keys() == report.keys()
    assert (counts["score"], counts["score/mcq"], counts["reward_part/outer"]) == (2, 1, 2)
    assert (counts["tIoU"], counts["R@0.3"]) == (1, 1)
    validation.reset()
    assert "score" not in validation.compute()


def test_what_no_reward_pays_is_not_in_the_reward(make_sample):
    """A perfect open-ended answer earned a third of what only closed-ended ones can earn."""
    rules = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
    validation = Validation(rules, num_samples=1)
    for task, answer in (("open_ended", "a dog runs"), ("mcq", "B")):
        text = f"<think>t</think><answer>{answer}</answer>"
        validation.update(make_sample(task, answer), rollout(text), [rollout(text)])
    report = validation.compute()
    assert report["reward/open_ended"] == report["reward/mcq"] == pytest.approx(1.0)
    assert report["reward_part/content"] == 1.0  # of the one sample that it is about
    assert validation.num_samples()["reward_part/content"] == 1


def test_rules_that_pay_nothing_leave_no_reward_to_select_by(make_sample):
    """GAD's weights are 0; a reward of 0 throughout would select the first checkpoint."""
    validation = Validation([OuterFormat(0.0), Content(0.0)], num_samples=1)
    validation.update(make_sample(), rollout(RIGHT), [rollout(RIGHT)])
    report = validation.compute()
    assert "reward" not in report
    assert report["reward_part/outer"] == 1.0


def test_a_task_without_items_is_no_warning():
    """torchmetrics warns of computing on nothing; held-out records need not have every task."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Validation([Content(0.5)], num_samples=2).compute() == {}


def test_open_ended_score_is_lexical_and_needs_the_envelope(make_sample):
    sample = make_sample("open_ended", "a dog runs")
    same = "<think>t</think><answer>a dog runs</answer>"
    assert answer_score(same, sample) == pytest.approx(1.0)
    assert 0.0 < answer_score(same.replace("dog", "cat"), sample) < 1.0
    assert answer_score("a dog runs", sample) == 0.0


def test_facts_stand_beside_the_lexical_score(make_sample):
    facts = Facts(({"colour": "red", "shape": "disc"},), WORDS, ("colour", "shape"))
    sample = replace(make_sample("open_ended", "a red disc"), facts=facts)
    validation = Validation([], num_samples=0)
    for answer in ("a red disc", "a blue disc", "a disc"):
        validation.update(sample, rollout(f"<think>t</think><answer>{answer}</answer>"), [])
    validation.update(sample, rollout("a red disc"), [])  # no envelope: nothing is stated
    report = validation.compute()
    assert report["facts"] == report["facts/open_ended"] == 0.5
    assert report["facts_wrong"] == 0.125
    assert report["facts_missing"] == 0.375
    validation.reset()
    validation.update(make_sample("open_ended", "a red disc"), rollout("a red disc"), [])
    assert "facts" not in validation.compute()
