import pytest
import torch

from lit_vdistill.models.plans.states import LayerState, Packing, SharedStates

CPU = torch.device("cpu")
GROUPS = [
    [(3, (2, 5, 1))],
    [(40, (1, 17, 16, 60)), (2, (3,)), (1, ()), (41, (70, 2)), (130, (90, 1, 90))],
]


def running(inputs, lengths, state, *, keeps_state):
    """Each token reads a decayed sum of what came before, and the input before the last one."""
    if isinstance(lengths, Packing):
        return in_turn(inputs, lengths, state, keeps_state)
    rows, width, channels = inputs.shape
    before = inputs.new_zeros(rows, 2, channels) if state is None else state.inputs
    whole = torch.cat([before, inputs], dim=1)
    memory = inputs.new_zeros(rows, channels) if state is None else state.memory[:, :, 0, 0]
    lengths = torch.full((rows,), width) if lengths is None else lengths
    read = []
    for step in range(width):
        is_real = (step < lengths)[:, None]
        memory = torch.where(is_real, 0.9 * memory + inputs[:, step], memory)
        read.append(memory + whole[:, step])
    tail = torch.stack([row[n : n + 2] for row, n in zip(whole, lengths.tolist(), strict=True)])
    kept = LayerState(tail, memory[:, :, None, None]) if keeps_state else None
    return torch.stack(read, dim=1)[..., None], kept


def in_turn(inputs, packing, state, keeps_state):
    """Packed rows, each by itself."""
    found = []
    for row, (start, stop) in enumerate(packing.bounds.unfold(0, 2, 1).tolist()):
        assert (packing.row_of[start:stop] == row).all()
        before = None if state is None else state.select(torch.tensor([row]))
        found.append(running(inputs[:, start:stop], None, before, keeps_state=keeps_state))
    read, states = zip(*found, strict=True)
    return torch.cat(read, dim=1), LayerState.cat(states) if keeps_state else None


@pytest.mark.parametrize("is_packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("lengths", GROUPS, ids=len)
def test_every_completion_reads_what_it_reads_alone(groups_of, lengths, is_packed):
    groups = groups_of(*lengths)
    total = groups[-1].stop
    flat = torch.randn(1, total, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, total, 3, 1, dtype=torch.float64)
    found = SharedStates(groups, CPU, is_packed=is_packed).carry(flat, running)
    (gradient,) = torch.autograd.grad((found * weights).sum(), flat)

    expected = torch.zeros_like(found)
    for group in groups:
        prompt = flat[:, group.start : group.start + group.prompt_length]
        end = group.start + group.prompt_length
        alone, _ = running(prompt, None, None, keeps_state=False)
        parts = [(group.start, alone)]
        for size in group.completion_lengths:
            row = torch.cat([prompt, flat[:, end : end + size]], dim=1)
            parts.append((end, running(row, None, None, keeps_state=False)[0][:, -size:]))
            end += size
        for start, part in parts:
            index = torch.arange(start, start + part.shape[1])
            expected = expected.index_add(1, index, part)
    torch.testing.assert_close(found, expected)
    (alone_gradient,) = torch.autograd.grad((expected * weights).sum(), flat)
    torch.testing.assert_close(gradient, alone_gradient)


def test_nothing_is_kept_where_nobody_goes_on(groups_of):
    asked = []

    def noting(*args, keeps_state):
        asked.append(keeps_state)
        return running(*args, keeps_state=keeps_state)

    SharedStates(groups_of((5, ()), (5, ())), CPU).carry(torch.randn(1, 10, 3), noting)
    assert asked == [False]
