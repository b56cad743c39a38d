import pytest
import torch
from torch.distributed.checkpoint import save

from lit_vdistill.stages.saved_networks import has_network, saved_weights


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_networks_of_a_checkpoint_are_told_without_its_weights(tmp_path, kind):
    state = {"policy.lm_head.weight": torch.ones(2), "ema_teachers": torch.ones(1)}
    checkpoint = {"state_dict": state, "optimizer_0": {"ema_teacher.weight": torch.ones(1)}}
    path = tmp_path / "step=4.ckpt"
    if kind == "file":
        torch.save(checkpoint, path)
    else:
        save(checkpoint, checkpoint_id=path, no_dist=True)
    found = saved_weights(path)
    assert set(found) == set(state)
    assert has_network(found, "policy")
    assert not has_network(found, "ema_teacher")
