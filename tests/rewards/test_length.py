from dataclasses import replace

import pytest
import torch

from lit_vdistill.objectives.advantages import group_advantages
from lit_vdistill.rewards import NotOverlong, OuterFormat, reward_breakdown, rule_score
from lit_vdistill.types import Rollout

TEXT = "<think>t</think><answer>B</answer>"


def rollout(tokens, is_truncated=False, text=TEXT):
    return Rollout("s1", 0, (1,) * tokens, (0.0,) * tokens, text, is_truncated, 1.0)


def punishment(tokens, limit, cache):
    """Eq. 13 of DAPO as it stands."""
    if tokens <= limit - cache:
        return 0.0
    return (limit - cache - tokens) / cache if tokens <= limit else -1.0


def test_it_is_dapos_punishment_and_one(make_sample):
    reward = NotOverlong(limit=100, margin=0.2)
    for tokens in (1, 79, 80, 81, 90, 99, 100, 101, 500):
        paid = reward_breakdown([reward], rollout(tokens), make_sample())["not_overlong"]
        assert paid == pytest.approx(punishment(tokens, 100, 20) + 1.0, abs=1e-12), tokens
        assert 0.0 <= paid <= 1.0


def test_what_was_cut_off_is_paid_nothing_and_a_teachers_text_all(make_sample):
    """Whatever the sampler's limit was; a text that was not sampled has no tokens to count."""
    reward = NotOverlong(limit=100)
    cut = rollout(40, is_truncated=True, text=TEXT[:-1])
    assert reward_breakdown([reward], cut, make_sample()) == {"not_overlong": 0.0}
    assert reward_breakdown([reward], TEXT, make_sample()) == {"not_overlong": 1.0}


def test_it_pays_no_format_and_no_answer(make_sample):
    """An empty response is not overlong; that it says nothing is for other rewards to see."""
    rewards, sample = [OuterFormat(0.5), NotOverlong(0.5, limit=100)], make_sample()
    worth = {}
    for text in ("", TEXT, TEXT * 2, "<answer>A B C</answer>"):
        parts = reward_breakdown(rewards, replace(rollout(5), text=text), sample)
        worth[text] = rule_score(rewards, parts, sample)
    assert worth == {"": 0.5, TEXT: 1.0, TEXT * 2: 0.5, "<answer>A B C</answer>": 0.5}


@pytest.mark.parametrize("method", ["grpo", "dr_grpo", "rloo"])
def test_among_siblings_it_is_the_punishment(method, make_sample):
    lengths, quality = [10, 85, 95, 100], torch.tensor([[0.0, 0.6, 0.6, 0.2]])
    found = [reward_breakdown([NotOverlong(limit=100)], rollout(n), make_sample()) for n in lengths]
    paid = [parts["not_overlong"] for parts in found]
    punished = [punishment(n, 100, 20) for n in lengths]
    ours, dapos = (
        group_advantages(quality + 0.3 * torch.tensor([x]), method) for x in (paid, punished)
    )
    torch.testing.assert_close(ours, dapos)
    assert ours[0, 1] > ours[0, 2]


@pytest.mark.parametrize(("limit", "margin"), [(0, 0.2), (10, 0.0), (10, 1.1)])
def test_lengths_that_mean_nothing_are_refused(limit, margin):
    with pytest.raises(ValueError, match=r"limit >= 1 and margin in \]0, 1\], got"):
        NotOverlong(limit=limit, margin=margin)
