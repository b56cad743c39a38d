"""The identities of VISD, as properties."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.objectives.credit import (
    local_support,
    mixed_credit,
    sampled_log_ratio,
    support_log_ratio,
    token_weights,
)

VOCAB = 12


def scene(seed, top_k):
    """Random teacher and student over a small vocabulary, with realized tokens."""
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(3, 5, VOCAB, generator=generator) * 3
    student = torch.randn(3, 5, VOCAB, generator=generator) * 3
    realized = torch.randint(VOCAB, (3, 5), generator=generator)
    ids, is_counted = local_support(teacher.topk(top_k).indices, realized)
    ratio = support_log_ratio(teacher.gather(-1, ids), student.gather(-1, ids), is_counted)
    full = [x.log_softmax(-1).gather(-1, realized[..., None])[..., 0] for x in (teacher, student)]
    return teacher, student, ids, is_counted, ratio, full


seeds = st.integers(0, 10_000)
top_ks = st.integers(1, VOCAB)


@given(seeds, top_ks)
def test_support_is_the_top_k_and_the_realized_token_once(seed, top_k):
    teacher, _, ids, is_counted, _, _ = scene(seed, top_k)
    top = teacher.topk(top_k).indices
    for row in range(3):
        for place in range(5):
            counted = ids[row, place][is_counted[row, place]].tolist()
            assert len(counted) == len(set(counted))
            assert set(counted) == {*top[row, place].tolist(), int(ids[row, place, 0])}


@given(seeds, top_ks)
def test_calibration_identity(seed, top_k):
    """Eq. 24: Δ^K = log q(y)/π(y) + log P(U)/Q(U)."""
    teacher, student, ids, is_counted, ratio, (log_q, log_pi) = scene(seed, top_k)
    mass = [(x.softmax(-1).gather(-1, ids) * is_counted).sum(-1).log() for x in (teacher, student)]
    torch.testing.assert_close(ratio, log_q - log_pi + mass[1] - mass[0], atol=1e-4, rtol=1e-4)


@given(seeds)
def test_with_the_whole_vocabulary_it_is_the_sampled_token_ratio(seed):
    *_, ratio, full = scene(seed, VOCAB)
    torch.testing.assert_close(ratio, sampled_log_ratio(*full), atol=1e-4, rtol=1e-4)


@given(seeds, top_ks, st.floats(0, 0.99), st.floats(0, 1))
def test_direction_is_kept_and_credit_is_bounded(seed, top_k, clip, mix):
    """Eq. 27 and 28."""
    *_, ratio, _ = scene(seed, top_k)
    advantages = torch.tensor([1.3, -0.4, 0.0])
    credit = mixed_credit(token_weights(ratio, advantages, clip), mix)
    moved = advantages[:, None] * credit
    assert torch.equal(moved.sign(), advantages.sign()[:, None].expand_as(moved))
    assert credit.min() >= 1 - mix * clip - 1e-6
    assert credit.max() <= 1 + mix * clip + 1e-6
    assert (credit[2] == 1).all()


@given(seeds, top_ks)
def test_without_mixing_credit_is_one_to_the_bit(seed, top_k):
    *_, ratio, _ = scene(seed, top_k)
    weights = token_weights(ratio, torch.tensor([1.0, -1.0, 0.5]), 0.2)
    assert torch.equal(mixed_credit(weights, 0.0), torch.ones(3, 5))


@given(seeds, top_ks)
def test_a_teacher_that_knows_no_more_gives_one(seed, top_k):
    teacher, _, ids, is_counted, _, _ = scene(seed, top_k)
    logits = teacher.gather(-1, ids)
    ratio = support_log_ratio(logits, logits, is_counted)
    assert (ratio == 0).all()
    assert (token_weights(ratio, torch.tensor([1.0, -1.0, 0.0]), 0.2) == 1).all()


def test_weights_by_hand():
    """Δ = log 1.1: a better rollout's token gains by it, a worse one's loses."""
    ratio = torch.full((2, 1), 1.1).log()
    weights = token_weights(ratio, torch.tensor([2.0, -2.0]), 0.2)
    torch.testing.assert_close(weights[:, 0], torch.tensor([1.1, 1 / 1.1]))
    strong = token_weights(10 * ratio, torch.tensor([2.0, -2.0]), 0.2)
    torch.testing.assert_close(strong[:, 0], torch.tensor([1.2, 0.8]))
    torch.testing.assert_close(mixed_credit(strong, 0.5)[:, 0], torch.tensor([1.1, 0.9]))


def test_a_clip_that_could_turn_signs_is_refused():
    with pytest.raises(ValueError, match=r"credit\.clip 1\.0"):
        token_weights(torch.zeros(1, 1), torch.ones(1), 1.0)


def test_no_gradient_flows():
    logits = torch.randn(2, 3, 4, requires_grad=True)
    ratio = support_log_ratio(logits * 2, logits, torch.ones(2, 3, 4, dtype=torch.bool))
    assert not ratio.requires_grad
