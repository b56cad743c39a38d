import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from lit_vdistill.models.plans.groups import PrefixGroup
from lit_vdistill.models.shared_prefix import (
    BlockAttention,
    TwoPassAttention,
    VarlenAttention,
    kernel_of,
)

GROUPS = [PrefixGroup(0, 7, (4, 1, 6)), PrefixGroup(18, 5, (3,)), PrefixGroup(26, 9, (2, 2))]
LENGTH = GROUPS[-1].stop
CPU = torch.device("cpu")


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, LENGTH, 16) for heads in (4, 2, 2)]
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]


def masked_attention(query, key, value, scaling):
    """The definition: one L x L mask, written down position by position."""
    owner = []
    for number, group in enumerate(GROUPS):
        lengths = (group.prompt_length, *group.completion_lengths)
        owner += [(number, s) for s, length in enumerate(lengths) for _ in range(length)]
    mask = torch.tensor(
        [
            [p >= k and g == h and t in (0, s) for k, (h, t) in enumerate(owner)]
            for p, (g, s) in enumerate(owner)
        ]
    )
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
    )
    return output.transpose(1, 2)


def varlen_in_the_open(q, k, v, q_bounds, k_bounds, q_longest, k_longest, softmax_scale, causal):
    """What FlashAttention's function of this signature computes: causal from the last key back."""
    assert causal
    assert (q_longest, k_longest) == (q_bounds.diff().max(), k_bounds.diff().max())
    parts = []
    for i in range(len(q_bounds) - 1):
        queries = q[q_bounds[i] : q_bounds[i + 1]].transpose(0, 1)
        keys, values = (t[k_bounds[i] : k_bounds[i + 1]].transpose(0, 1) for t in (k, v))
        own, all_keys = queries.shape[1], keys.shape[1]
        mask = torch.ones(own, all_keys, dtype=torch.bool).tril(all_keys - own)
        output = scaled_dot_product_attention(
            queries[None], keys[None], values[None],
            attn_mask=mask, scale=softmax_scale, enable_gqa=True,
        )  # fmt: skip
        parts.append(output[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize(
    "plan",
    [TwoPassAttention(GROUPS, CPU), VarlenAttention(GROUPS, CPU, varlen_in_the_open)],
    ids=["two passes", "varlen"],
)
def test_plans_equal_the_mask_that_they_never_build(plan, states):
    weights = torch.randn(1, LENGTH, 4, 16)
    expected = masked_attention(*states, 0.3)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), states)
    output = plan.attend(0, *states, 0.3)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)
    gradients = torch.autograd.grad((output * weights).sum(), states)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_flex_attention_forward_equals_the_mask(states):
    """On CPU it has no backward pass."""
    states = [state.detach() for state in states]
    output = BlockAttention(GROUPS, CPU).attend(0, *states, 0.3)
    torch.testing.assert_close(output, masked_attention(*states, 0.3), atol=1e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_flex_attention_has_the_masks_gradients(states):
    on_gpu = [state.detach().cuda().requires_grad_() for state in states]
    expected = masked_attention(*states, 0.3)
    output = BlockAttention(GROUPS, torch.device("cuda")).attend(0, *on_gpu, 0.3)
    torch.testing.assert_close(output.cpu(), expected, atol=1e-3, rtol=0)
    expected_gradients = torch.autograd.grad(expected.square().sum(), states)
    for ours, theirs in zip(
        torch.autograd.grad(output.square().sum(), on_gpu), expected_gradients, strict=True
    ):
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-2, rtol=0)


def test_a_network_without_plans_is_refused():
    from lit_vdistill.models.tiny import build_tiny_model

    with pytest.raises(ValueError, match=r"'sdpa'.*enable_plans"):
        kernel_of(build_tiny_model("qwen3-vl").model)
