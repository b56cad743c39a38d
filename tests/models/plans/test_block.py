import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_vdistill.models.plans.block import BlockAttention
from lit_vdistill.models.plans.groups import PrefixGroup

CPU = torch.device("cpu")
SMALL = [(7, (4, 1, 6)), (5, (3,)), (9, (2, 2))]
LAYOUTS = {
    "one block and less": [(30, (4, 1, 60))],
    "borders within segments": [(200, (90, 300, 1)), (5, (3, 2, 130)), (64, (128,))],
    "borders between segments": [(128, (128, 256)), (256, (64, 64)), (128, (120, 8))],
    "a prompt of many blocks": [(700, (50, 48, 33, 512)), (90, (700, 3))],
    "first completion shares the prompt's block": [(70, (640, 20)), (300, (600,))],
}


def as_pairs(counts, indices):
    """Pairs of blocks of an index in which each row's first `counts` columns are valid."""
    rows = range(indices.shape[-2])
    return {(row, int(c)) for row in rows for c in indices[0, 0, row, : counts[0, 0, row]]}


@pytest.mark.parametrize("block_size", [128, 16])
@pytest.mark.parametrize("name", LAYOUTS)
def test_blocks_are_those_of_the_mask_that_is_never_built(name, block_size, groups_of, by_position):
    groups = groups_of(*LAYOUTS[name])
    expected = by_position(groups)
    length = len(expected)
    ours = BlockAttention(groups, CPU, block_size).mask
    stock = create_block_mask(
        lambda b, h, q, k: expected[q, k], None, None, length, length, "cpu", block_size
    )
    for side in ("kv", "q"):
        for part in (side, f"full_{side}"):
            fields = (f"{part}_num_blocks", f"{part}_indices")
            mine, theirs = (as_pairs(*(getattr(m, f) for f in fields)) for m in (ours, stock))
            assert mine == theirs, part
    assert ours.seq_lengths == stock.seq_lengths
    positions = torch.arange(length)
    zero = torch.tensor(0)
    assert torch.equal(ours.mask_mod(zero, zero, positions[:, None], positions), expected)


class LargestTensor(TorchDispatchMode):
    """Records the most elements that a result of any operation has in memory."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                size = leaf.untyped_storage().nbytes() // leaf.itemsize
                self.largest = max(self.largest, size)
        return result


def test_preparing_it_takes_no_more_than_a_few_numbers_a_token():
    groups = [PrefixGroup(0, 5000, (600, 100, 300)), PrefixGroup(6000, 1000, (500, 700))]
    length = groups[-1].stop
    with LargestTensor() as record:
        BlockAttention(groups, CPU)
    blocks = -(-length // 128)
    assert length <= record.largest <= 2 * max(length, blocks**2)


def test_one_compilation_serves_all_lengths(groups_of, states_of, monkeypatch):
    """Counted without compiling anything: on GPU a compilation takes a minute."""
    from torch._dynamo.testing import CompileCounter
    from torch.nn.attention.flex_attention import flex_attention

    counter = CompileCounter()
    compiled = torch.compile(flex_attention, dynamic=True, backend=counter, fullgraph=True)
    monkeypatch.setattr(
        "lit_vdistill.models.plans.block._flex_attention", lambda is_compiled: compiled
    )
    for lengths in ([(200, (90, 301))], [(150, (40,)), (70, (30, 99))], [(513, (17, 18, 19))]):
        groups = groups_of(*lengths)
        states = [state.detach() for state in states_of(groups[-1].stop)]
        BlockAttention(groups, CPU).attend(0, *states, 0.25)
    assert counter.frame_count == 1


def test_the_forward_pass_equals_the_mask(groups_of, states_of, masked_attention):
    """On CPU there is no backward pass."""
    groups = groups_of(*SMALL)
    states = [state.detach() for state in states_of(groups[-1].stop)]
    output = BlockAttention(groups, CPU).attend(0, *states, 0.3)
    torch.testing.assert_close(output, masked_attention(groups, *states, 0.3), atol=1e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lengths", [SMALL, *LAYOUTS.values()])
def test_compiled_it_has_the_masks_gradients(lengths, groups_of, states_of, masked_attention):
    groups = groups_of(*lengths)
    states = states_of(groups[-1].stop)
    on_gpu = [state.detach().cuda().requires_grad_() for state in states]
    expected = masked_attention(groups, *states, 0.3)
    output = BlockAttention(groups, torch.device("cuda")).attend(0, *on_gpu, 0.3)
    torch.testing.assert_close(output.cpu(), expected, atol=1e-3, rtol=0)
    expected_gradients = torch.autograd.grad(expected.square().sum(), states)
    for ours, theirs in zip(
        torch.autograd.grad(output.square().sum(), on_gpu), expected_gradients, strict=True
    ):
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-2, rtol=0)
