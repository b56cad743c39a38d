from dataclasses import replace

import pytest
import torch
from torch import nn

from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.head import OneCallHead
from lit_vdistill.models.logprobs import TeacherHead, head_scores
from lit_vdistill.objectives.divergence import divergence

VOCAB, HIDDEN = 50, 16


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = nn.Linear(HIDDEN, VOCAB, bias=False)
    OneCallHead.convert(head)
    return head


def states_of(lengths):
    torch.manual_seed(1)
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return CompletionStates(
        hidden=torch.randn(len(lengths), longest, HIDDEN, requires_grad=True),
        final=torch.zeros(len(lengths), HIDDEN),
        ids=torch.randint(VOCAB, mask.shape),
        mask=mask,
    )


def test_scores_equal_those_of_whole_logits(head):
    states = states_of([5, 2, 7])
    chosen = torch.randint(VOCAB, (3, 7, 4))
    scores = head_scores(head, states, top_k=3, chosen_ids=chosen, chunk_size=4)
    whole = head(states.hidden).log_softmax(-1)
    mask = states.mask
    expected = whole.gather(-1, states.ids[..., None])[..., 0]
    torch.testing.assert_close(scores.logprobs[mask], expected[mask])
    torch.testing.assert_close(scores.entropies[mask], -(whole.exp() * whole).sum(-1)[mask])
    top = whole.topk(3)
    assert torch.equal(scores.top_ids[mask], top.indices[mask])
    torch.testing.assert_close(scores.top_logprobs[mask], top.values[mask])
    torch.testing.assert_close(scores.chosen_logprobs[mask], whole.gather(-1, chosen)[mask])
    for values in (scores.logprobs, scores.entropies, scores.top_logprobs, scores.chosen_logprobs):
        assert (values[~mask] == 0).all()


def test_gradients_are_those_of_whole_logits(head):
    states = states_of([5, 2, 7])
    chosen = torch.randint(VOCAB, (3, 7, 4))
    weights = torch.randn(3, 7) * states.mask
    scores = head_scores(head, states, chosen_ids=chosen, chunk_size=4)
    loss = (scores.logprobs * weights).sum() + (scores.chosen_logprobs.sum(-1) * weights).sum()
    ours = torch.autograd.grad(loss, [states.hidden, head.weight])
    whole = head(states.hidden).log_softmax(-1)
    logprobs = whole.gather(-1, states.ids[..., None])[..., 0]
    loss = (logprobs * weights).sum() + (whole.gather(-1, chosen).sum(-1) * weights).sum()
    for gradient, expected in zip(
        ours, torch.autograd.grad(loss, [states.hidden, head.weight]), strict=True
    ):
        torch.testing.assert_close(gradient, expected)
    assert not scores.entropies.requires_grad


def test_no_more_logits_exist_than_a_chunk_has(head, monkeypatch):
    """Neither at once in the forward pass nor kept for the backward pass."""
    at_once, kept = [], []
    stock = torch.nn.functional.linear

    def linear(*inputs):
        at_once.append(len(inputs[0]))
        return stock(*inputs)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.shape[-1]) or tensor, lambda tensor: tensor
    ):
        head_scores(head, states_of([200, 180]), top_k=2, chunk_size=16)
    assert max(at_once) == 16
    assert sum(at_once) == 380
    assert VOCAB not in kept


@pytest.mark.parametrize("lengths", [[0, 0], [1, 0], [5, 2, 7]], ids=["none", "one", "many"])
def test_the_head_is_called_once_whatever_the_number_of_chunks(head, lengths):
    """In the forward pass; the backward pass works on the weight that it left there."""
    calls = []
    head.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    states = replace(states_of([7] * len(lengths)), mask=states_of([*lengths, 7]).mask[:-1])
    scores = head_scores(head, states, top_k=2, chosen_ids=states.ids[..., None], chunk_size=5)
    scores.logprobs.sum().backward()
    assert calls == [sum(lengths)]
    assert (states.hidden.grad[~states.mask] == 0).all()
    assert (head.weight.grad.norm() > 0) == (sum(lengths) > 0)


KINDS = ["reverse", "forward", "jensen_shannon"]


def teacher_of(states, kind, vocab=VOCAB):
    """A teacher of another width; its own hidden states and head ask for gradients."""
    torch.manual_seed(2)
    head = nn.Linear(HIDDEN + 3, vocab)
    OneCallHead.convert(head)
    hidden = torch.randn(*states.mask.shape, HIDDEN + 3, requires_grad=True)
    return TeacherHead(head, hidden, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_divergences_are_those_of_whole_logits(head, kind):
    """Values and gradients over several chunks; nothing flows into the teacher."""
    states = states_of([5, 2, 7])
    teacher = teacher_of(states, kind)
    weights = torch.randn(3, 7) * states.mask
    found = head_scores(head, states, teacher=teacher, chunk_size=5).divergences
    whole = [
        h(x).log_softmax(-1) for h, x in ((head, states.hidden), (teacher.head, teacher.hidden))
    ]
    expected = divergence(*whole, kind)
    torch.testing.assert_close(found, expected.where(states.mask, 0.0))
    ours, theirs = (
        torch.autograd.grad((apart * weights).sum(), [states.hidden, head.weight])
        for apart in (found, expected)
    )
    for gradient, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, other)
    again = head_scores(head, states, teacher=teacher, chunk_size=5)
    (again.divergences + again.logprobs).sum().backward()
    assert teacher.hidden.grad is None
    assert teacher.head.weight.grad is None


def test_a_teacher_is_called_once_too_and_holds_no_logits(head):
    states = states_of([200, 180])
    teacher, calls, kept = teacher_of(states, "reverse"), [], []
    teacher.head.register_forward_pre_hook(lambda *_: calls.append("teacher"))
    head.register_forward_pre_hook(lambda *_: calls.append("student"))
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.shape[-1]) or tensor, lambda tensor: tensor
    ):
        scores = head_scores(head, states, teacher=teacher, chunk_size=16)
    scores.divergences.sum().backward()
    assert calls == ["teacher", "student"]
    assert VOCAB not in kept


def test_a_vocabulary_with_more_padding_is_compared_by_its_words(head):
    states = states_of([5, 2, 7])
    wide = teacher_of(states, "reverse", VOCAB + 4)
    cut = replace(teacher_of(states, "reverse"), hidden=wide.hidden)
    with torch.no_grad():
        cut.head.weight.copy_(wide.head.weight[:VOCAB])
        cut.head.bias.copy_(wide.head.bias[:VOCAB])
    ours, theirs = (head_scores(head, states, teacher=t).divergences for t in (wide, cut))
    torch.testing.assert_close(ours, theirs)


def test_chunks_change_nothing(head):
    states = states_of([5, 2, 7])
    weights = torch.randn(3, 7)
    results = []
    for size in (5, 14):
        scores = head_scores(
            head, states, top_k=3, chosen_ids=states.ids[..., None], chunk_size=size
        )
        loss = ((scores.logprobs + scores.chosen_logprobs[..., 0]) * weights).sum()
        results.append(
            [*fields_of(scores), *torch.autograd.grad(loss, [states.hidden, head.weight])]
        )
    for few, one in zip(*results, strict=True):
        torch.testing.assert_close(few, one)


def fields_of(scores):
    values = (getattr(scores, name) for name in scores.__slots__)
    return [value for value in values if value is not None]
