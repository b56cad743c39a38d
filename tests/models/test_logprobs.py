from dataclasses import replace

import pytest
import torch
from torch import nn

from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.head import OneCallHead
from lit_vdistill.models.logprobs import head_scores

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
