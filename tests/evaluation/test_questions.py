import pytest

from lit_vdistill.evaluation.questions import LoaderSize, medium_batches, shard


def test_questions_about_one_medium_stand_together_where_they_fit():
    media = ["a", "b", "a", None, "c", "a", "b", None]
    assert medium_batches(media, 4) == [[0, 2, 5], [1, 6, 3, 4], [7]]
    assert medium_batches(media, 2) == [[0, 2], [5], [1, 6], [3, 4], [7]]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_each_question_once_over_all_processes(size, world_size):
    media = [f"v{i * i % 7}" for i in range(23)] + [None] * 4
    batches = medium_batches(media, size)
    assert max(map(len, batches)) <= size
    shards = [shard(batches, rank, world_size) for rank in range(world_size)]
    assert len({len(own) for own in shards}) == 1
    asked = [index for own in shards for batch in own for index in batch]
    assert sorted(index for index in asked if index >= 0) == list(range(27))


def test_batches_of_nothing_are_refused():
    with pytest.raises(ValueError, match="batch_size 1 or more"):
        LoaderSize(batch_size=0)
    assert medium_batches([], 3) == []
