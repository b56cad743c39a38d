import random

import numpy as np
import torch

from callbacks import RandomState


def draw():
    return torch.rand(3).tolist(), random.random(), random.gauss(0, 1), np.random.rand(3).tolist()


def test_random_states_are_restored_before_the_first_batch_only():
    saved = RandomState()
    draw()
    state = saved.state_dict()
    expected = draw()

    resumed = RandomState()
    resumed.load_state_dict(state)
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    resumed.on_train_batch_start(None, None, None, 0)
    assert draw() == expected
    resumed.on_train_batch_start(None, None, None, 1)
    assert draw() != expected


def test_the_state_loads_with_weights_only(tmp_path):
    random.gauss(0, 1)  # leaves a second value behind, part of the state
    torch.save(RandomState().state_dict(), tmp_path / "s.pt")
    state = torch.load(tmp_path / "s.pt", weights_only=True)
    resumed = RandomState()
    resumed.load_state_dict(state)
    expected = draw()
    resumed.on_train_batch_start(None, None, None, 0)
    assert draw() == expected


def test_on_another_number_of_processes_all_start_from_the_first_ones_state():
    (first,) = RandomState().state_dict()["processes"]
    expected = draw()
    (second,) = RandomState().state_dict()["processes"]
    resumed = RandomState()
    resumed.load_state_dict({"processes": [first, second]})
    resumed.on_train_batch_start(None, None, None, 0)
    assert draw() == expected
