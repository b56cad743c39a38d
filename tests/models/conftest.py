"""The definition of shared prompts, which plans are compared with. Imports stand in fixtures."""

import pytest

from tests.families import FAMILIES


@pytest.fixture(params=FAMILIES)
def family(request, families):
    """A tiny student of each family: model and processor."""
    return families[request.param]


@pytest.fixture
def groups_of():
    """Places groups, given as (prompt length, completion lengths), one after another."""
    from lit_vdistill.models.plans.groups import PrefixGroup

    def build(*lengths):
        groups = []
        for prompt, completions in lengths:
            start = groups[-1].stop if groups else 0
            groups.append(PrefixGroup(start, prompt, tuple(completions)))
        return groups

    return build


@pytest.fixture
def by_position():
    """Builds the L x L mask of groups, written down position by position."""
    import torch

    def build(groups):
        length = groups[-1].stop
        mask = torch.zeros(length, length, dtype=torch.bool)
        for group in groups:
            end = group.start
            for size in (group.prompt_length, *group.completion_lengths):
                own = slice(end, end + size)
                mask[own, group.start : group.start + group.prompt_length] = end > group.start
                mask[own, own] = torch.ones(size, size, dtype=torch.bool).tril()
                end += size
        return mask

    return build


@pytest.fixture
def masked_attention(by_position):
    """Attention of groups by that mask, in the shape of a plan's output."""
    from torch.nn.functional import scaled_dot_product_attention

    def attend(groups, query, key, value, scaling):
        output = scaled_dot_product_attention(
            query, key, value, attn_mask=by_position(groups), scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2)

    return attend


@pytest.fixture
def states_of():
    """Builds query, key and value of four and two heads for a sequence of given length."""
    import torch

    def build(length, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)
        shapes = [(1, length, heads, 16) for heads in (4, 2, 2)]
        made = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
        return [state.transpose(1, 2).requires_grad_() for state in made]

    return build


@pytest.fixture
def varlen_in_the_open():
    """What `flash_attn_varlen_func` computes: causal from the last key back."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    def attend(q, k, v, q_bounds, k_bounds, q_longest, k_longest, softmax_scale, causal):
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

    return attend
