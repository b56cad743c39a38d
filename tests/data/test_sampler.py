from itertools import islice

import pytest

from lit_vdistill.data.sampler import ShardedEvalSampler, StreamSampler, medium_order


def sampler(rank=0, world_size=1, window_size=3, size=20):
    return StreamSampler(size, seed=1, rank=rank, world_size=world_size, window_size=window_size)


def drawn(sampler, count):
    return [next(sampler.candidates(position)) for position in islice(iter(sampler), count)]


def test_order_is_a_function_of_seed_and_epoch():
    one = sampler()
    assert one.per_epoch == 18
    first, second, third = (drawn(one, 54)[i : i + 18] for i in (0, 18, 36))
    assert drawn(sampler(), 18) == first
    for epoch in (first, second, third):
        assert len(set(epoch)) == 18
    assert first != second != third


@pytest.mark.parametrize("start", [0, 1, 5, 18, 19, 40])
def test_a_stream_goes_on_behind_any_number_of_samples(start):
    whole, resumed = sampler(), sampler()
    resumed.start = start
    assert drawn(resumed, 40) == drawn(whole, 100)[start : start + 40]


@pytest.mark.parametrize("size", [24, 29, 31])
def test_windows_hold_the_same_samples_on_any_number_of_processes(size):
    """Eight samples a step: one process with 8, two with 4, four with 2."""
    seen = []
    for count in (1, 2, 4):
        own = 8 // count
        shards = [drawn(sampler(r, count, own, size), 6 * own) for r in range(count)]
        seen.append(
            [sorted(i for s in shards for i in s[k * own : (k + 1) * own]) for k in range(6)]
        )
    assert seen[0] == seen[1] == seen[2]
    assert all(len(set(window)) == 8 for window in seen[0])
    # Three windows an epoch: what is left over of it is in no window.
    assert len({index for window in seen[0][:3] for index in window}) == 24


@pytest.mark.parametrize("position", [0, 1, 7, 17, 18])
def test_stand_ins_are_of_other_windows_then_of_the_same(position):
    one = sampler()
    candidates = list(one.candidates(position))
    assert len(set(candidates)) == 18
    epoch, place = divmod(position, 18)
    order, row = one.order(epoch), place // 3
    window = order[row * 3 : row * 3 + 3]
    assert candidates[0] == order[place]
    later = [order[(row + i) % 6 * 3 + place % 3] for i in range(6)]
    assert candidates[:6] == later
    assert not set(candidates[1:6]) & set(window)


@pytest.mark.parametrize("count", [2, 4])
def test_stand_ins_are_the_same_on_any_number_of_processes(count):
    whole, own = sampler(0, 1, 8, 29), 8 // count
    shards = [sampler(rank, count, own, 29) for rank in range(count)]
    for position in range(40):
        rank, place = position % count, position // count
        found = list(shards[rank].candidates(place))
        assert found == list(whole.candidates(position))


def test_held_out_samples_are_stood_in_for_by_padding():
    shard = ShardedEvalSampler(4, rank=1, world_size=3)
    assert list(shard) == [1, ~0]
    assert list(shard.candidates(1)) == [1, ~2, ~3, ~0]
    assert list(shard.candidates(~0)) == [~0, ~1, ~2, ~3]


def test_too_small_a_dataset_is_an_error():
    with pytest.raises(ValueError, match=r"2 processes x data\.loader\.batch_size 3"):
        sampler(world_size=2, size=5)


def test_eval_shards_cover_everything_once_and_pad_to_equal_length():
    shards = [list(ShardedEvalSampler(7, rank=rank, world_size=3)) for rank in range(3)]
    assert shards == [[0, 3, 6], [1, 4, ~0], [2, 5, ~0]]
    assert sorted(i for shard in shards for i in shard if i >= 0) == list(range(7))


MEDIA = [*(f"v{index // 4}" for index in range(28)), None, None]


@pytest.mark.parametrize("epoch", [0, 1])
def test_questions_about_a_medium_come_in_one_window_on_any_number_of_processes(epoch):
    """Eight samples a step: two media, whether one process has both or two have one each."""
    steps = []
    for count in (1, 2):
        own = 8 // count
        order = medium_order(MEDIA[:28], epoch, seed=1, world_size=count, window_size=own)
        assert sorted(order) == sorted(set(order))
        shards = [order[rank::count] for rank in range(count)]
        for shard in shards:
            for start in range(0, len(shard), own):
                assert len({MEDIA[index] for index in shard[start : start + own]}) == own // 4
        steps.append([sorted(order[start : start + 8]) for start in range(0, len(order), 8)])
    assert steps[0] == steps[1]
    assert len(steps[0]) == 3


def test_media_and_their_questions_are_shuffled_anew_each_epoch():
    orders = [
        medium_order(MEDIA, epoch, seed=seed, world_size=1, window_size=5)
        for epoch, seed in ((0, 1), (0, 1), (1, 1), (0, 2))
    ]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(30)) for order in orders)
    # Windows of five cut through fours: what is left of a medium comes next.
    media = [MEDIA[index] for index in orders[0]]
    changes = sum(a != b for a, b in zip(media, media[1:], strict=False))
    assert changes <= 8
