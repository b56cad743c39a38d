"""What makes a divergence one, as properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_vdistill.objectives.divergence import divergence, with_rest

VOCAB = 12
KINDS = ("reverse", "forward", "jensen_shannon")
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 10_000)
scales = st.sampled_from([0.1, 1.0, 5.0, 50.0])


def pair(seed, scale, dtype=torch.float32):
    """Log-probabilities of a student and a teacher, `[3, 5, vocab]`."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 5, VOCAB, generator=generator, dtype=dtype) * scale
    return logits.clamp(-50, 50).log_softmax(-1)


def by_definition(p, q, kind):
    if kind == "forward":
        p, q = q, p
    if kind != "jensen_shannon":
        return (p * (p / q).log()).sum(-1)
    m = (p + q) / 2
    return ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2


def gradient(student, teacher, kind):
    logits = student.clone().requires_grad_()
    divergence(logits.log_softmax(-1), teacher, kind).sum().backward()
    return logits.grad


@given(seeds, st.sampled_from([0.1, 1.0, 5.0]), kinds)
def test_values_and_gradients_are_the_definitions(seed, scale, kind):
    student, teacher = pair(seed, scale, torch.float64)
    logits = student.clone().requires_grad_()
    value = by_definition(logits.softmax(-1), teacher.exp(), kind)
    value.sum().backward()
    torch.testing.assert_close(divergence(student, teacher, kind), value.detach())
    torch.testing.assert_close(gradient(student, teacher, kind), logits.grad)


@given(seeds, scales, kinds)
def test_it_is_never_negative_and_always_finite(seed, scale, kind):
    student, teacher = pair(seed, scale)
    value = divergence(student, teacher, kind)
    assert value.dtype == torch.float32
    assert value.isfinite().all()
    assert (value >= -1e-6).all()
    assert gradient(student, teacher, kind).isfinite().all()


@given(seeds, scales, kinds)
def test_equal_distributions_are_not_apart(seed, scale, kind):
    student, _ = pair(seed, scale)
    assert (divergence(student, student, kind) == 0).all()
    assert gradient(student, student, kind).abs().max() < 1e-6


@given(seeds, scales)
def test_jensen_shannon_is_symmetric_and_bounded(seed, scale):
    student, teacher = pair(seed, scale)
    value = divergence(student, teacher, "jensen_shannon")
    torch.testing.assert_close(value, divergence(teacher, student, "jensen_shannon"))
    assert (value <= math.log(2) + 1e-6).all()
    torch.testing.assert_close(
        divergence(student, teacher, "forward"), divergence(teacher, student, "reverse")
    )


@given(seeds, scales, kinds, st.integers(1, VOCAB))
def test_a_bucket_for_the_rest_never_adds(seed, scale, kind, top_k):
    """The data processing inequality; with all of the vocabulary in the support nothing is lost.

    In float64: a rest no larger than float32 rounds by is wrong by as much again.
    """
    student, teacher = pair(seed, scale, torch.float64)
    ids = teacher.topk(top_k).indices
    parts = [with_rest(network.gather(-1, ids)) for network in (student, teacher)]
    bucketed, full = divergence(*parts, kind), divergence(student, teacher, kind)
    torch.testing.assert_close(parts[0].exp().sum(-1), torch.ones(3, 5).double())
    assert (bucketed <= full + 1e-4).all()
    if top_k == VOCAB:
        torch.testing.assert_close(bucketed, full)
        alone = divergence(student.gather(-1, ids), teacher.gather(-1, ids), kind)
        torch.testing.assert_close(alone, full)


@given(seeds, scales, kinds)
def test_a_bucket_for_nothing_adds_almost_nothing(seed, scale, kind):
    student, teacher = pair(seed, scale)
    bucketed = divergence(with_rest(student), with_rest(teacher), kind)
    torch.testing.assert_close(bucketed, divergence(student, teacher, kind), atol=1e-4, rtol=1e-4)


@given(seeds, scales, kinds, st.integers(1, VOCAB))
def test_gradients_through_the_bucket_are_those_of_the_merged_distribution(
    seed, scale, kind, top_k
):
    student, teacher = pair(seed, scale)
    ids = teacher.topk(top_k).indices
    logits = student.clone().requires_grad_()
    told = with_rest(teacher.gather(-1, ids))
    divergence(with_rest(logits.log_softmax(-1).gather(-1, ids)), told, kind).sum().backward()
    assert logits.grad.isfinite().all()
    if top_k < VOCAB and scale <= 1.0:
        again = student.double().requires_grad_()
        p = again.softmax(-1).gather(-1, ids)
        q = teacher.double().exp().gather(-1, ids)
        p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (p, q))
        by_definition(p, q, kind).sum().backward()
        torch.testing.assert_close(logits.grad, again.grad.float(), atol=1e-4, rtol=1e-3)


def test_by_hand():
    student, teacher = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    assert divergence(student, teacher, "reverse").item() == pytest.approx(0.143841, abs=1e-6)
    assert divergence(student, teacher, "forward").item() == pytest.approx(0.130812, abs=1e-6)
    rest = with_rest(torch.tensor([0.5, 0.2]).log()).exp()
    torch.testing.assert_close(rest, torch.tensor([0.5, 0.2, 0.3]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_impossible_costs_much_but_not_infinitely(kind):
    """Ids that both exclude, and one that only one of them does."""
    student = torch.tensor([0.0, 1.0, -torch.inf, -torch.inf]).log_softmax(-1).requires_grad_()
    teacher = torch.tensor([-torch.inf, 1.0, 0.0, -torch.inf]).log_softmax(-1)
    value = divergence(student, teacher, kind)
    value.backward()
    assert 0.1 < value.item() < torch.inf
    assert student.grad.isfinite().all()
    assert (student.grad[2:] == 0).all()


def test_a_support_that_holds_everything_leaves_some_rounding_steps():
    logprobs = torch.tensor([0.0, -200.0, -torch.inf], requires_grad=True)
    rest = with_rest(logprobs)
    rest[-1].backward()
    assert rest[-1].exp().item() == pytest.approx(16 * torch.finfo(torch.float32).eps)
    assert logprobs.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_widened_and_the_teacher_stands_still(kind):
    student, teacher = (x.bfloat16().requires_grad_() for x in pair(0, 1.0))
    value = divergence(student, teacher, kind)
    value.sum().backward()
    assert value.dtype == torch.float32
    assert teacher.grad is None
    assert student.grad is not None
