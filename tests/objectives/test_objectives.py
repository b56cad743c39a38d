import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from lit_vdistill.objectives.advantages import group_advantages, has_signal
from lit_vdistill.objectives.adversarial import (
    discriminator_reward,
    pair_weights,
    pairwise_total,
)
from lit_vdistill.objectives.kl import kl_estimate
from lit_vdistill.objectives.policy import masked_total, policy_surrogate
from lit_vdistill.objectives.schedules import learning_rate_factor

REWARDS = torch.tensor([[1.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.2]])


def test_grpo_advantages_by_hand():
    # mean 0.5, sample variance (0.25 + 0.25) / 3
    scale = math.sqrt(0.5 / 3) + 1e-4
    expected = torch.tensor([[0.5, -0.5, 0.0, 0.0], [0.0] * 4]) / scale
    torch.testing.assert_close(group_advantages(REWARDS), expected)


def test_other_advantages_by_hand():
    torch.testing.assert_close(
        group_advantages(REWARDS, "dr_grpo")[0], torch.tensor([0.5, -0.5, 0.0, 0.0])
    )
    # less the mean of the others: 1 - 1/3, 0 - 2/3
    torch.testing.assert_close(
        group_advantages(REWARDS, "rloo")[0], torch.tensor([2 / 3, -2 / 3, 0.0, 0.0])
    )
    assert group_advantages(REWARDS, "reinforce") is REWARDS


@pytest.mark.parametrize("method", ["grpo", "dr_grpo", "rloo"])
def test_permuting_a_group_permutes_its_advantages(method):
    rewards, order = torch.rand(3, 6), torch.randperm(6)
    torch.testing.assert_close(
        group_advantages(rewards[:, order], method), group_advantages(rewards, method)[:, order]
    )


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 0.7, 123.456])
def test_equal_rewards_give_exactly_no_advantage(value):
    advantages = group_advantages(torch.full((1, 7), value))
    assert torch.equal(advantages, torch.zeros(1, 7))
    assert not has_signal(advantages).any()


def test_a_group_of_one_has_no_baseline():
    with pytest.raises(ValueError, match="group_size 1"):
        group_advantages(torch.ones(2, 1))


KINDS = [(ratio, kind) for ratio in ("token", "sequence") for kind in ("clipped", "truncated")]
WHOLE = torch.ones(1, 4, dtype=torch.bool)


@pytest.mark.parametrize(("ratio", "surrogate"), KINDS)
def test_on_policy_every_kind_is_reinforce(ratio, surrogate):
    """At a ratio of 1: value, gradient and nothing clipped, under bounds as narrow as GSPO's."""
    logprobs = torch.randn(2, 3, requires_grad=True)
    advantages = torch.tensor([[2.0] * 3, [-1.0, 0.5, -1.0]])
    mask = torch.tensor([[True] * 3, [True, True, False]])
    loss, is_clipped = policy_surrogate(
        logprobs, logprobs.detach(), advantages, mask,
        ratio=ratio, surrogate=surrogate, clip_low=3e-4, clip_high=4e-4,
    )  # fmt: skip
    torch.testing.assert_close(loss, -advantages, rtol=1e-6, atol=0)
    assert not is_clipped.any()
    loss.sum().backward()
    torch.testing.assert_close(logprobs.grad, -advantages, rtol=1e-6, atol=0)


def test_clipping_stops_the_gradient_only_where_the_step_went_far_enough():
    old = torch.zeros(1, 4)
    ratio = torch.tensor([[1.3, 1.3, 0.7, 0.7]])
    logprobs = ratio.log().requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    loss, is_clipped = policy_surrogate(logprobs, old, advantages, WHOLE)
    torch.testing.assert_close(loss, torch.tensor([[-1.2, 1.3, -0.7, 0.8]]))
    assert is_clipped.tolist() == [[True, False, False, True]]
    loss.sum().backward()
    assert (logprobs.grad != 0).tolist() == [[False, True, True, False]]


def test_truncating_leaves_every_token_its_gradient():
    """CISPO by hand, without a lower bound: min(ratio, 1.2) weighs -A times the log-probability."""
    ratio = torch.tensor([[1.3, 1.3, 0.7, 0.1]])
    logprobs = ratio.log().requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 2.0, -1.0]])
    loss, is_clipped = policy_surrogate(
        logprobs, torch.zeros(1, 4), advantages, WHOLE, surrogate="truncated", clip_low=1.0
    )
    expected = torch.tensor([[-1.2, 1.2, -1.4, 0.1]])
    torch.testing.assert_close(loss, expected)
    assert is_clipped.tolist() == [[True, True, False, False]]
    loss.sum().backward()
    torch.testing.assert_close(logprobs.grad, expected)


def test_a_sequence_ratio_is_the_geometric_mean_of_its_tokens():
    """GSPO by hand: two tokens at 2 and 1/2 are where they were, though each left 1 ± 0.2.

    The second row has three tokens, whose ratios multiply to 1.331 = 1.1 ** 3, and padding.
    """
    ratio = torch.tensor([[2.0, 0.5, 9.0, 9.0], [1.331, 1.0, 1.0, 9.0]])
    mask = torch.tensor([[True, True, False, False], [True, True, True, False]])
    logprobs = ratio.log().requires_grad_()
    advantages = torch.tensor([[1.0], [1.0]]).expand(2, 4)

    def gspo(clip_high):
        loss, is_clipped = policy_surrogate(
            logprobs, torch.zeros(2, 4), advantages, mask, ratio="sequence", clip_high=clip_high
        )
        total = masked_total(loss, mask, "sequence_mean")
        return total, is_clipped[mask].tolist(), torch.autograd.grad(total, logprobs)[0]

    total, is_clipped, gradient = gspo(0.2)
    assert total.item() == pytest.approx(-1.0 - 1.1)
    assert not any(is_clipped)
    # Of s = exp(mean log-ratio): s / length at every token.
    expected = -torch.tensor([[1 / 2, 1 / 2, 0, 0], [1.1 / 3, 1.1 / 3, 1.1 / 3, 0]])
    torch.testing.assert_close(gradient, expected)
    total, is_clipped, gradient = gspo(0.05)
    assert total.item() == pytest.approx(-1.0 - 1.05)
    assert is_clipped == [False, False, True, True, True]
    torch.testing.assert_close(gradient, torch.stack([expected[0], torch.zeros(4)]))


def test_reductions_by_hand_and_padding_changes_nothing():
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, math.nan, math.inf]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert masked_total(values, mask, "sequence_mean").item() == 2.0 + 4.0
    assert masked_total(values, mask, "token_mean").item() == 6.0 + 4.0
    assert masked_total(values, mask, "token_sum_over_limit").item() == 6.0 + 4.0
    longer = torch.nn.functional.pad(values, (0, 2), value=9.0)
    longer_mask = torch.nn.functional.pad(mask, (0, 2))
    weights = torch.tensor([0.5, 0.0])
    halves = {"sequence_mean": 1.0, "token_mean": 3.0, "token_sum_over_limit": 3.0}
    for reduction, weighted in halves.items():
        total = masked_total(values, mask, reduction)
        assert masked_total(longer, longer_mask, reduction) == total
        assert masked_total(values, mask, reduction, weights).item() == weighted
    assert masked_total(values, torch.zeros_like(mask)).item() == 0.0


def test_kl_estimators_by_hand():
    policy, ref = torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]])
    expected = {"k1": math.log(2), "k2": math.log(2) ** 2 / 2, "k3": 0.5 - 1 + math.log(2)}
    for name, value in expected.items():
        assert kl_estimate(policy, ref, name).item() == pytest.approx(value)


def test_k1_and_k3_are_unbiased_and_k3_is_never_negative():
    policy, ref = torch.randn(8).log_softmax(-1), torch.randn(8).log_softmax(-1)
    true_kl = (policy.exp() * (policy - ref)).sum()
    for name in ("k1", "k3"):
        mean = (policy.exp() * kl_estimate(policy[None], ref[None], name)[0]).sum()
        torch.testing.assert_close(mean, true_kl)
    assert (kl_estimate(policy[None], ref[None], "k3") >= 0).all()
    assert kl_estimate(policy[None], policy[None], "k3").abs().max() == 0


def test_k2_has_the_gradient_of_the_true_kl():
    logits, ref = torch.randn(6, requires_grad=True), torch.randn(6).log_softmax(-1)
    policy = logits.log_softmax(-1)
    (true_gradient,) = torch.autograd.grad((policy.exp() * (policy - ref)).sum(), logits)
    policy = logits.log_softmax(-1)
    expected = (policy.detach().exp() * kl_estimate(policy[None], ref[None], "k2")[0]).sum()
    (gradient,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, true_gradient)


def test_equation_7_by_hand():
    teacher, student = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])
    weights = torch.tensor([0.5, 1.0])
    expected = 0.5 * -logsigmoid(torch.tensor(1.0)) + math.log(2)
    torch.testing.assert_close(pairwise_total(teacher, student, weights), expected)


def test_no_pairs_give_zero_with_a_gradient_path():
    scores = torch.randn(3, requires_grad=True)
    loss = pairwise_total(scores[:0], scores[:0], torch.ones(0))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(scores.grad, torch.zeros(3))


def test_pair_weights_are_the_two_readings():
    q = torch.tensor([0.5, 1.0])
    assert pair_weights(q, 0.75, "none").tolist() == [1.0, 1.0]
    assert pair_weights(q, 0.75, "q").tolist() == [0.5, 1.0]
    torch.testing.assert_close(pair_weights(q, 0.75, "q_norm"), torch.tensor([2 / 3, 4 / 3]))
    assert pair_weights(q[:0], 0.0, "q_norm").numel() == 0


def test_discriminator_reward_transforms():
    scores = torch.tensor([[0.0, 2.0]], requires_grad=True)
    pool = torch.tensor([2.0])
    centred = discriminator_reward(scores, pool)
    assert not centred.requires_grad
    torch.testing.assert_close(centred, torch.tensor([[1 / (1 + math.e**2), 0.5]]))
    assert discriminator_reward(scores, pool, "raw").tolist() == [[0.0, 2.0]]
    assert discriminator_reward(scores, pool, "sigmoid")[0, 0].item() == 0.5


def test_learning_rate_by_hand():
    factor = [learning_rate_factor(step, 100, 0.03, "cosine") for step in (0, 1, 2, 3, 51, 100)]
    assert factor[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    assert factor[4] == pytest.approx(0.5 * (1 + math.cos(math.pi * 48 / 97)))
    assert factor[5] == pytest.approx(0.0)
    assert learning_rate_factor(50, 100, 0.0, "constant") == 1.0
    straight = [
        learning_rate_factor(step, 110, 10 / 110, "linear") for step in (9, 10, 60, 109, 120)
    ]
    assert straight == pytest.approx([1.0, 1.0, 0.5, 0.01, 0.0])
