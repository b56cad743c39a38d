import copy

import pytest
import torch
from transformers.models.qwen3_5 import modeling_qwen3_5

from lit_vdistill.models import shared_prefix
from lit_vdistill.models.plans.groups import PrefixGroup
from lit_vdistill.models.shared_prefix import PackedPlan
from lit_vdistill.rollouts.shared_cache import PromptCache, RolloutCache
from tests.families import gradient_bound

CPU = torch.device("cpu")


class Nobody:
    """Attention that no layer of these tests asks for."""

    def attend(self, layer, query, key, value, scaling):
        raise AssertionError("a delta net looks at nothing")


@pytest.fixture
def layers(families):
    """One delta net as transformers has it, and the same weights sharing states."""
    stock = copy.deepcopy(families["qwen3.5"][0].model.language_model.layers[0].linear_attn)
    shared = copy.deepcopy(stock)
    assert "Shared" in type(shared).__name__
    from torch import nn
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet

    stock.__class__, stock.conv1d.__class__ = Qwen3_5GatedDeltaNet, nn.Conv1d
    return stock, shared


@pytest.fixture(params=[False, True], ids=["padded", "packed"])
def packing(request, monkeypatch):
    """As on CPU, and as on GPU, where a kernel keeps packed rows apart by their bounds."""
    rule = modeling_qwen3_5.torch_chunk_gated_delta_rule
    seen = []

    def by_bounds(*tensors, g, beta, initial_state, cu_seqlens=None, **others):
        if cu_seqlens is None:
            return rule(*tensors, g=g, beta=beta, initial_state=initial_state, **others)
        seen.append(len(cu_seqlens) - 1)
        assert cu_seqlens.dtype == torch.long
        found = []
        for row, (start, stop) in enumerate(cu_seqlens.unfold(0, 2, 1).tolist()):
            own = [tensor[:, start:stop] for tensor in (*tensors, g, beta)]
            state = None if initial_state is None else initial_state[row : row + 1]
            given = {"g": own[3], "beta": own[4], "initial_state": state}
            found.append(rule(*own[:3], **given, **others))
        read, states = zip(*found, strict=True)
        return torch.cat(read, 1), torch.cat(states) if others["output_final_state"] else None

    if request.param:
        monkeypatch.setattr(shared_prefix, "can_pack", lambda device: True)
        monkeypatch.setattr(modeling_qwen3_5, "torch_chunk_gated_delta_rule", by_bounds)
    yield
    assert bool(seen) == request.param


@pytest.mark.parametrize(
    "lengths",
    [
        [(150, (90, 1, 64, 65)), (130, (70,))],  # states cross chunks of 64 tokens
        [(2, (3, 1)), (1, (5,)), (64, (2,)), (128, (128, 16))],  # shorter than the convolution
    ],
    ids=["long", "short"],
)
def test_it_reads_what_the_stock_layer_reads_row_by_row(layers, groups_of, lengths, packing):
    stock, shared = layers
    groups = groups_of(*lengths)
    states = torch.randn(1, groups[-1].stop, shared.hidden_size)
    plan = PackedPlan(Nobody(), groups, CPU)
    weights = torch.randn_like(states)
    found = shared(states, attention_plan=plan)
    (found * weights).sum().backward()

    stock.zero_grad()
    for group in groups:
        end = group.start + group.prompt_length
        prompt = states[:, group.start : end]
        parts = [(group.start, end, stock(prompt))]
        for size in group.completion_lengths:
            row = stock(torch.cat([prompt, states[:, end : end + size]], dim=1))
            parts.append((end, end + size, row[:, -size:]))
            end += size
        for start, stop, expected in parts:
            torch.testing.assert_close(found[:, start:stop], expected, atol=1e-5, rtol=1e-4)
            (expected * weights[:, start:stop]).sum().backward(retain_graph=True)
    for (name, ours), theirs in zip(shared.named_parameters(), stock.parameters(), strict=True):
        error = (ours.grad - theirs.grad).norm() / theirs.grad.norm()
        assert error < gradient_bound(f"linear_attn.{name}"), name


def test_without_a_plan_it_is_the_stock_layer_to_the_bit(layers):
    stock, shared = layers
    states = torch.randn(2, 70, shared.hidden_size)
    assert torch.equal(shared(states), stock(states))


def test_rollouts_take_their_prompts_state_on_and_free_it_when_they_end(layers):
    """Token by token, while rows leave; each as the stock layer reads its whole row."""
    stock, shared = layers
    shared.eval()
    with torch.no_grad():
        prompts = [torch.randn(1, n, shared.hidden_size) for n in (5, 90)]
        groups = [PrefixGroup(0, 5, (0,)), PrefixGroup(5, 90, (0,))]
        cache = PromptCache(groups, torch.device("cpu"))
        shared(torch.cat(prompts, dim=1), attention_plan=cache)
        key = torch.zeros(2, 1, 90, 4)
        cache.trunks.add(3, [key[:1, :, :5], key[1:]], [key[:1, :, :5], key[1:]])
        rollouts = RolloutCache(cache, 2, 8)
        said = torch.randn(4, 8, shared.hidden_size)
        kept = torch.arange(4)
        for step in range(8):
            if step == 3:
                left = torch.tensor([1, 2])
                rollouts.select(left)
                kept = kept[left]
                memory = rollouts.states[shared.layer_idx].memory
                assert len(memory) == 2
                assert memory.untyped_storage().nbytes() == memory.nbytes
            rollouts.advance()
            read = shared(said[kept, step : step + 1], attention_plan=rollouts)
            for row, index in enumerate(kept.tolist()):
                whole = torch.cat([prompts[index // 2], said[index : index + 1, : step + 1]], 1)
                torch.testing.assert_close(read[row], stock(whole)[0, -1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["bf16-mixed", "bf16-true"])
def test_the_decay_is_computed_in_float32_and_kept_in_the_weights_type(
    layers, groups_of, mode, monkeypatch
):
    _, shared = layers
    dtype = torch.bfloat16 if mode == "bf16-true" else torch.float32
    torch.nn.Module.to(shared, dtype=dtype)
    assert {shared.A_log.dtype, shared.dt_bias.dtype} == {dtype}
    seen = []
    rule = modeling_qwen3_5.torch_chunk_gated_delta_rule

    def noting(query, key, value, *, g, **others):
        seen.append((g.dtype, others["initial_state"]))
        return rule(query, key, value, g=g, **others)

    monkeypatch.setattr(modeling_qwen3_5, "torch_chunk_gated_delta_rule", noting)
    groups = groups_of((70, (20, 30)))
    states = torch.randn(1, groups[-1].stop, shared.hidden_size, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16-mixed"):
        read = shared(states, attention_plan=PackedPlan(Nobody(), groups, CPU))
    assert read.dtype == torch.bfloat16
    assert {kind for kind, _ in seen} == {torch.float32}
    # The state that completions go on from has lost nothing either.
    assert {state.dtype for _, state in seen if state is not None} == {torch.float32}
