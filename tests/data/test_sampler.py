import pytest

from lit_vdistill.data.sampler import ResumableSampler, ShardedEvalSampler


def sampler(rank=0, world_size=1, batch_size=3, size=20):
    return ResumableSampler(size, seed=1, rank=rank, world_size=world_size, batch_size=batch_size)


def test_order_is_a_function_of_seed_and_epoch():
    one, other = sampler(), sampler()
    assert list(one) == list(other) == list(one)
    one.set_epoch(1)
    assert list(one) != list(other)
    assert len(list(one)) == len(one) == 18


def test_resuming_skips_what_was_seen_in_that_epoch_only():
    whole = sampler()
    whole.set_epoch(4)
    resumed = sampler()
    resumed.resume(epoch=4, samples_done=6)
    # Lightning asks for an iterator before it sets the epoch.
    assert list(resumed) == list(whole)[6:]
    assert len(resumed) == len(whole)
    resumed.set_epoch(5)
    whole.set_epoch(5)
    assert list(resumed) == list(whole)


def test_shards_are_disjoint_and_equal_in_length():
    shards = [list(sampler(rank, world_size=3, batch_size=2)) for rank in range(3)]
    assert [len(shard) for shard in shards] == [6, 6, 6]
    assert len({index for shard in shards for index in shard}) == 18


def test_too_small_a_dataset_is_an_error():
    with pytest.raises(ValueError, match=r"2 processes x data\.loader\.batch_size 3"):
        sampler(world_size=2, size=5)


def test_eval_shards_cover_everything_once_and_pad_to_equal_length():
    shards = [list(ShardedEvalSampler(7, rank=rank, world_size=3)) for rank in range(3)]
    assert shards == [[0, 3, 6], [1, 4, ~0], [2, 5, ~0]]
    assert sorted(i for shard in shards for i in shard if i >= 0) == list(range(7))
