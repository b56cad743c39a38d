"""Importance weights between policy and sampler."""

import math

import pytest
import torch

from lit_vdistill.objectives.mismatch import mismatch_weights

LOG = torch.log(torch.tensor([[0.5, 0.9, 0.3, 0.7], [0.2, 0.4, 0.1, math.nan]]))
SAMPLER = torch.log(torch.tensor([[0.5, 0.3, 0.6, 0.7], [0.1, 0.2, 0.05, 0.5]]))
MASK = torch.tensor([[True, True, True, True], [True, True, True, False]])


def weights(kind, level, cap=2.0):
    return mismatch_weights(LOG, SAMPLER, MASK, kind=kind, level=level, cap=cap)


def test_none_is_1_everywhere():
    found, is_beyond = weights("none", "token")
    assert torch.equal(found, torch.ones(2, 4))
    assert not is_beyond.any()


def test_a_token_is_weighed_by_its_ratio_up_to_the_cap():
    found, is_beyond = weights("truncate", "token", cap=2.5)
    torch.testing.assert_close(found[0], torch.tensor([1.0, 2.5, 0.5, 1.0]))
    torch.testing.assert_close(found[1], torch.tensor([2.0, 2.0, 2.0, 1.0]))  # 1 where untrained
    assert is_beyond.nonzero().tolist() == [[0, 1]]


def test_beyond_the_cap_a_mask_leaves_nothing():
    found, is_beyond = weights("mask", "token", cap=2.5)
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0, 0.5, 1.0]))
    assert is_beyond.nonzero().tolist() == [[0, 1]]


@pytest.mark.parametrize(("kind", "beyond"), [("truncate", 2.0), ("mask", 0.0)])
def test_a_sequence_is_weighed_by_the_product_of_its_tokens(kind, beyond):
    found, is_beyond = weights(kind, "sequence")
    torch.testing.assert_close(found[0], torch.full((4,), 1.5))
    torch.testing.assert_close(found[1, :3], torch.full((3,), beyond))  # 8: each token is 2
    assert is_beyond.nonzero().tolist() == [[1, 0], [1, 1], [1, 2]]


def test_a_ratio_beyond_all_numbers_is_capped_too():
    found, _ = mismatch_weights(
        torch.zeros(1, 2000), torch.full((1, 2000), -50.0), torch.ones(1, 2000, dtype=bool),
        level="sequence",
    )  # fmt: skip
    assert torch.equal(found, torch.full((1, 2000), 2.0))


def test_weights_bring_the_samplers_average_to_the_policys():
    """E over the sampler of weight times f is E over the policy of f, where no cap acts."""
    policy, sampler = torch.tensor([0.1, 0.4, 0.5]), torch.tensor([0.3, 0.3, 0.4])
    value = torch.tensor([3.0, -1.0, 2.0])
    found, _ = mismatch_weights(
        policy.log()[:, None], sampler.log()[:, None], torch.ones(3, 1, dtype=bool), cap=10.0
    )
    torch.testing.assert_close((sampler * found[:, 0] * value).sum(), (policy * value).sum())


def test_they_carry_no_gradient():
    policy = LOG.clone().requires_grad_()
    found, _ = mismatch_weights(policy, SAMPLER, MASK)
    assert not found.requires_grad
