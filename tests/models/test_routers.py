"""Routers' load-balancing loss, against transformers' own and on padded, packed and recomputed."""

import pytest
import torch
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import load_balancing_loss_func

from lit_vdistill.models.forward import completion_states
from lit_vdistill.models.layout import Row
from lit_vdistill.models.routers import Routed, balance_loss
from lit_vdistill.models.vlm import VLMConfig, load_model
from tests.families import MODEL_TYPES

MIXTURES = [name for name in MODEL_TYPES if name.endswith("-moe")]


def routed(seed, tokens=40, experts=6, top_k=2):
    generator = torch.Generator().manual_seed(seed)
    return Routed(torch.randn(tokens, experts, generator=generator).requires_grad_(), top_k)


@pytest.mark.parametrize("padded", [False, True])
def test_one_layers_loss_and_gradient_are_transformers(padded):
    ours, theirs = routed(0), routed(0)
    mask = torch.arange(40) % 3 > 0 if padded else None
    loss = balance_loss([ours], mask)
    attention_mask = None if mask is None else mask.long()[None]
    stock = load_balancing_loss_func((theirs.logits,), 6, 2, attention_mask)
    torch.testing.assert_close(loss, stock)
    loss.backward()
    stock.backward()
    torch.testing.assert_close(ours.logits.grad, theirs.logits.grad)


def test_what_one_layer_prefers_is_not_hidden_by_what_another_does():
    """Two experts, each layer all for one: transformers' pooled means would be balanced."""
    sides = [torch.tensor([[side, -side]]).expand(10, 2) for side in (9.0, -9.0)]
    layers = [Routed(logits, 1) for logits in sides]
    assert balance_loss(layers, None).item() == pytest.approx(2.0, abs=1e-5)
    assert load_balancing_loss_func(tuple(sides), 2, 1).item() == pytest.approx(1.0)
    even = Routed(torch.cat(sides), 1)
    assert balance_loss([even, even], None).item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", MIXTURES)
def test_padding_counts_nowhere_and_recomputation_changes_nothing(name, make_prompt, families):
    """A completion a prompt: packed and dense run the same tokens, dense with padding beside."""
    torch.manual_seed(0)
    model = load_model(VLMConfig(f"tiny/{name}", router_loss_coef=1e-3))
    _, processor = families[name]
    prompts = [
        make_prompt(processor, "a"),
        make_prompt(processor, "b", "text", "How many shapes are there?"),
    ]
    rows = [Row(0, (300, 301)), Row(1, (310, 311, 312, 313, 314))]
    found = {}
    for mode in ("always", "never", "recomputed"):
        if mode == "recomputed":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            model.model.shared_prefix = mode
        model.zero_grad()
        states = completion_states(model.model, prompts, rows, 0)
        (states.router_loss + 0.0 * states.hidden.sum()).backward()
        gates = [p.grad.clone() for n, p in model.named_parameters() if "mlp.gate" in n]
        found[mode] = (states.router_loss.detach(), gates)
    assert len(found["always"][1]) == model.config.get_text_config().num_hidden_layers
    assert all(gradient.abs().max() > 0 for gradient in found["always"][1])
    torch.testing.assert_close(found["always"], found["never"], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found["recomputed"], found["never"], atol=1e-7, rtol=1e-5)
    with torch.no_grad():
        assert completion_states(model.model, prompts, rows, 0).router_loss is None
    model.model.router_loss_coef = 0.0
    assert completion_states(model.model, prompts, rows, 0).router_loss is None


def test_a_network_without_routers_has_no_loss_to_weigh():
    with pytest.raises(ValueError, match="router_loss_coef 0.001: 'tiny/qwen3-vl' is no mixture"):
        load_model(VLMConfig("tiny/qwen3-vl", router_loss_coef=1e-3))
