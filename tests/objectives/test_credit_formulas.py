"""From rewards and logits to the loss, against the paper's formulas in plain Python.

Nothing of ours computes an expected value: lists, `math`, and VISD's Eqs. 3-7, 14, 16, 19-28 with
the released code's choices where the paper leaves one (sample deviation plus 1e-4).
"""

import math
from random import Random

import pytest
import torch

from lit_vdistill.objectives.advantages import group_advantages
from lit_vdistill.objectives.credit import (
    local_support,
    mixed_credit,
    sampled_log_ratio,
    support_log_ratio,
    token_weights,
)
from lit_vdistill.objectives.policy import masked_total, policy_surrogate
from lit_vdistill.objectives.schedules import linear

VOCAB = 9
GROUPS = [
    # Rewards of a group's rollouts, and their lengths.
    ([2.0, 0.5, 1.25, 0.0], [5, 1, 4, 3]),
    ([1.0, 1.0, 1.0, 1.0], [2, 3, 1, 2]),  # A = 0
    ([0.0, 0.0, 0.0, 3.0], [3, 2, 6, 4]),
]
CLIP = 0.2


def plain_advantages(rewards):
    """Eq. 14; the released code takes the sample standard deviation and 1e-4."""
    mean = sum(rewards) / len(rewards)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return [(r - mean) / (deviation + 1e-4) for r in rewards]


def plain_softmax(logits):
    """Eq. 19's distributions over the vocabulary."""
    exponentials = [math.exp(x) for x in logits]
    return [x / sum(exponentials) for x in exponentials]


def plain_support(q, token, top_k):
    """Eq. 20."""
    ranked = sorted(range(len(q)), key=lambda v: -q[v])
    return {*ranked[:top_k], token}


def plain_log_ratio(teacher, student, token, top_k):
    """Eqs. 20-22: renormalised over the support; and the same by Eq. 24's decomposition."""
    q, pi = plain_softmax(teacher), plain_softmax(student)
    support = plain_support(q, token, top_k)
    mass_q, mass_pi = sum(q[u] for u in support), sum(pi[u] for u in support)
    delta = math.log(q[token] / mass_q) - math.log(pi[token] / mass_pi)
    decomposed = math.log(q[token] / pi[token]) + math.log(mass_pi / mass_q)
    assert delta == pytest.approx(decomposed, abs=1e-12)
    return delta


def plain_weight(advantage, delta, clip):
    """Eq. 25."""
    sign = (advantage > 0) - (advantage < 0)
    m = math.exp(sign * delta)
    return m if clip is None else min(max(m, 1 - clip), 1 + clip)


def plain_loss(rollouts, mix, clip):
    """Eq. 16 with Eq. 26's advantages: minus its objective, over all groups."""
    total = 0.0
    for rollout in rollouts:
        tokens = []
        for token in rollout["tokens"]:
            m = plain_weight(rollout["advantage"], token["delta"], clip)
            moved = rollout["advantage"] * ((1 - mix) + mix * m)
            ratio = math.exp(token["logprob"] - token["old"])
            tokens.append(min(ratio * moved, min(max(ratio, 0.8), 1.2) * moved))
        total += sum(tokens) / len(tokens)
    return -total / len(rollouts)


def drawn():
    """Rollouts of unequal lengths with logits of a teacher and of a student at each token."""
    random = Random(1)
    rollouts = []
    for rewards, lengths in GROUPS:
        for reward, length in zip(rewards, lengths, strict=True):
            tokens = []
            for _ in range(length):
                student = [random.gauss(0, 2) for _ in range(VOCAB)]
                # Some tokens are judged alike, some apart: weights within the clip and beyond.
                apart = random.choice([0.02, 0.1, 2.0])
                teacher = [x + random.gauss(0, apart) for x in student]
                tokens.append(
                    {
                        "student": student,
                        "teacher": teacher,
                        "id": random.randrange(VOCAB),
                        "old_gap": random.choice([0.0, 0.5, -0.5, 0.1]),
                    }
                )
            rollouts.append({"reward": reward, "tokens": tokens})
    return rollouts


def tensors_of(rollouts):
    """Logits of both `[rows seq vocab]`, ids and mask `[rows seq]`, padded with what is no zero."""
    longest = max(len(rollout["tokens"]) for rollout in rollouts)
    shape = (len(rollouts), longest)
    teacher, student = (torch.full((*shape, VOCAB), 3.5) for _ in range(2))
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    gaps = torch.full(shape, 7.0)
    for row, rollout in enumerate(rollouts):
        for t, token in enumerate(rollout["tokens"]):
            teacher[row, t] = torch.tensor(token["teacher"])
            student[row, t] = torch.tensor(token["student"])
            ids[row, t], gaps[row, t], mask[row, t] = token["id"], token["old_gap"], True
    return teacher, student, ids, gaps, mask


@pytest.fixture
def rollouts():
    found = drawn()
    advantages = [a for rewards, _ in GROUPS for a in plain_advantages(rewards)]
    for rollout, advantage in zip(found, advantages, strict=True):
        rollout["advantage"] = advantage
        for token in rollout["tokens"]:
            token["logprob"] = math.log(plain_softmax(token["student"])[token["id"]])
            token["old"] = token["logprob"] - token["old_gap"]
    return found


def ours(rollouts, top_k):
    """A and Δ by our functions."""
    teacher, student, ids, gaps, mask = tensors_of(rollouts)
    rewards = torch.tensor([rewards for rewards, _ in GROUPS])
    advantages = group_advantages(rewards).flatten()
    both = [logits.log_softmax(-1) for logits in (teacher, student)]
    if top_k is None:
        delta = sampled_log_ratio(*(x.gather(-1, ids[..., None])[..., 0] for x in both))
    else:
        support, is_counted = local_support(teacher.topk(min(top_k, VOCAB)).indices, ids)
        delta = support_log_ratio(*(x.gather(-1, support) for x in both), is_counted)
    logprobs = both[1].gather(-1, ids[..., None])[..., 0]
    return advantages, delta, logprobs, gaps, mask


@pytest.mark.parametrize("top_k", [1, 3, VOCAB, VOCAB + 4])
def test_advantages_and_log_ratios(rollouts, top_k):
    """Tokens inside and outside of the teacher's top K; K up to the vocabulary and beyond."""
    advantages, delta, _, _, mask = ours(rollouts, top_k)
    expected = [r["advantage"] for r in rollouts]
    assert advantages.tolist() == pytest.approx(expected, abs=1e-5)
    assert {a > 0 for a in expected if a} == {True, False}
    assert expected.count(0.0) == 4
    outside = 0
    for row, rollout in enumerate(rollouts):
        for t, token in enumerate(rollout["tokens"]):
            found = plain_log_ratio(token["teacher"], token["student"], token["id"], top_k)
            assert delta[row, t].item() == pytest.approx(found, abs=1e-5)
            ranked = plain_support(plain_softmax(token["teacher"]), -1, top_k) - {-1}
            outside += token["id"] not in ranked
    assert (0 < outside < int(mask.sum())) == (top_k < VOCAB)


def test_with_the_whole_vocabulary_it_is_the_sampled_tokens_own(rollouts):
    """Eq. 24 with P(U) = Q(U) = 1."""
    _, delta, *_ = ours(rollouts, None)
    for row, rollout in enumerate(rollouts):
        for t, token in enumerate(rollout["tokens"]):
            sides = [plain_softmax(token[who])[token["id"]] for who in ("teacher", "student")]
            assert delta[row, t].item() == pytest.approx(math.log(sides[0] / sides[1]), abs=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, VOCAB])
@pytest.mark.parametrize("clip", [CLIP, 0.0, None])
@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_weights_credit_and_loss(rollouts, top_k, clip, mix):
    advantages, delta, logprobs, gaps, mask = ours(rollouts, top_k)
    weights = token_weights(delta, advantages, clip)
    credit = mixed_credit(weights, mix)
    bounds = set()
    for row, rollout in enumerate(rollouts):
        advantage = rollout["advantage"]
        for t, token in enumerate(rollout["tokens"]):
            token["delta"] = plain_log_ratio(token["teacher"], token["student"], token["id"], top_k)
            m = plain_weight(advantage, token["delta"], clip)
            assert weights[row, t].item() == pytest.approx(m, rel=1e-4)
            assert credit[row, t].item() == pytest.approx((1 - mix) + mix * m, rel=1e-4)
            if advantage == 0.0:
                assert weights[row, t] == 1.0
            elif clip:
                bounds |= {(advantage > 0, m)} & {(s, e) for s in (True, False) for e in ends(clip)}
                # Eq. 27 and 28.
                moved = advantage * credit[row, t].item()
                assert moved * advantage > 0
                assert 1 - mix * clip - 1e-6 <= moved / advantage <= 1 + mix * clip + 1e-6
    if clip:  # both bounds are met, with either sign of A
        assert len(bounds) == 4
    moved = advantages[:, None] * credit
    per_token, _ = policy_surrogate(logprobs, logprobs - gaps, moved, mask)
    loss = masked_total(per_token, mask) / len(rollouts)
    assert loss.item() == pytest.approx(plain_loss(rollouts, mix, clip), rel=1e-4, abs=1e-5)
    if mix == 0.0:
        assert torch.equal(credit, torch.ones_like(credit))


def ends(clip):
    return (1 - clip, 1 + clip)


def test_lambda_falls_to_zero_over_its_steps():
    """Table 8 and the released schedule: half of what is left of 600 steps, then nothing."""
    for step in (0, 1, 150, 599, 600, 5000):
        expected = 0.5 * max(600 - step, 0) / 600
        assert linear(step, 0.5, 0.0, 600) == pytest.approx(expected, abs=1e-15)
    assert linear(600, 0.5, 0.0, 600) == 0.0
