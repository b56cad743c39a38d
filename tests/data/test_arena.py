import pickle
import subprocess
import sys

import pytest
import torch

from lit_vdistill.data.arena import Arena


def test_what_is_kept_is_equal_and_stays_when_the_original_changes():
    arena = Arena(4096)
    originals = [torch.arange(7), torch.rand(3, 5), torch.tensor([], dtype=torch.uint8)]
    kept = arena.keep(originals)
    assert all(torch.equal(a, b) for a, b in zip(kept, originals, strict=True))
    assert [tensor.dtype for tensor in kept] == [tensor.dtype for tensor in originals]
    more = arena.keep([torch.full((100,), 7, dtype=torch.uint8)])
    originals[0].zero_()
    assert kept[0].tolist() == list(range(7))
    assert more[0].tolist() == [7] * 100


def test_nothing_is_kept_beyond_the_size_and_nothing_in_part():
    arena = Arena(1000)
    assert arena.keep([torch.zeros(500, dtype=torch.uint8)]) is not None
    used = arena.used
    assert arena.keep([torch.zeros(100), torch.zeros(100)]) is None
    assert arena.used == used
    assert arena.keep([torch.zeros(50, dtype=torch.uint8)], overhead=1000) is None
    assert arena.keep([torch.zeros(64, dtype=torch.uint8)], overhead=300) is not None
    assert arena.keep([torch.zeros(128, dtype=torch.uint8)]) is None
    assert Arena(0).keep([torch.zeros(1)]) is None


def test_a_process_that_is_started_anew_begins_with_an_empty_one():
    arena = Arena(4096)
    arena.keep([torch.ones(9)])
    other = pickle.loads(pickle.dumps(arena))
    assert (other.size, other.used) == (4096, 0)
    assert len(pickle.dumps(arena)) < 500


def test_more_than_the_machine_gives_is_an_error_that_names_the_key():
    with pytest.raises(ValueError, match=r"data\.loader\.memory_gib: .* cannot be reserved"):
        Arena(2**60).keep([torch.ones(1)])


def test_an_epoch_stays_within_the_budget():
    """In a process of its own: resident memory grows by a tenth more than the budget at most."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.data.epoch_in_memory", "64"],
        capture_output=True,
        text=True,
        check=True,
    )
    kept, grown = (float(word) for word in found.stdout.split())
    assert kept > 0.9 * 64
    assert grown < 1.1 * 64
