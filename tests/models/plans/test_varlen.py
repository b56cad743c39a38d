import torch

from lit_vdistill.models.plans.varlen import VarlenAttention


def test_it_equals_the_mask_that_it_never_builds(
    groups_of, states_of, masked_attention, varlen_in_the_open
):
    groups = groups_of((7, (4, 1, 6)), (5, (3,)), (9, (2, 2)))
    states = states_of(groups[-1].stop)
    plan = VarlenAttention(groups, torch.device("cpu"), varlen_in_the_open)
    output, expected = plan.attend(0, *states, 0.3), masked_attention(groups, *states, 0.3)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)
    weights = torch.randn_like(expected)
    gradients, expected_gradients = (
        torch.autograd.grad((out * weights).sum(), states) for out in (output, expected)
    )
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
