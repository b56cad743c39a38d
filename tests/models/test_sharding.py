import torch

from lit_vdistill.models.sharding import gathered, is_sharded, is_zero3_sharded


def test_a_whole_network_is_left_alone():
    """What shards a network is tested on two processes, in `tests/rollouts/test_sharded.py`."""
    network, calls = torch.nn.Linear(2, 2), []
    network.register_forward_hook(lambda *_: calls.append(1))
    assert not is_sharded(network)
    with gathered(network):
        network(torch.zeros(1, 2))
    assert calls == [1]


def test_zero_3_is_known_by_its_parameters():
    network = torch.nn.Linear(2, 2)
    network.weight.ds_id = 0
    assert is_zero3_sharded(network)
    assert is_sharded(network)
