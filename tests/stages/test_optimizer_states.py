import torch

from lit_vdistill.stages.optimizer import RestingAdamW


def test_who_rests_has_states_that_do_not_move():
    """Distributed checkpoints load into what a step at rate 0 has made."""
    resting, learning = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    groups = [{"params": [resting], "lr": 0.0}, {"params": [learning], "lr": 0.1}]
    optimizer = RestingAdamW(groups, weight_decay=0.1)
    for parameter in (resting, learning):
        parameter.grad = torch.ones(2)
    optimizer.step()
    assert resting.tolist() == [1.0, 1.0]
    assert {name: t.abs().sum().item() for name, t in optimizer.state[resting].items()} == {
        "step": 0.0,
        "exp_avg": 0.0,
        "exp_avg_sq": 0.0,
    }
    assert optimizer.state[learning]["step"] == 1.0
    assert (learning < 1.0).all()
