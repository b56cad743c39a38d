from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.data.sampler import StreamSampler
from lit_vdistill.data.stand_ins import StandInDataset
from lit_vdistill.data.window import StreamState, WindowLoader, WindowTurn
from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.readers.records import BadSample
from lit_vdistill.responses.prompts import TEMPLATES
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample

SIZE = 11


@pytest.fixture(scope="module")
def text_set(families, tmp_path_factory):
    """Questions without media, the last of them unreadable."""
    samples = [
        VideoSample(str(i), Task.MCQ, "What?", "A", media_type="text") for i in range(SIZE - 1)
    ]
    samples.append(VideoSample(str(SIZE - 1), Task.MCQ, "What?", "A", media="none.mp4"))
    reader = MediaReader(tmp_path_factory.mktemp("media"), FrameConfig(), factor=32, cache_dir=None)
    processor = families["qwen3-vl"][1]
    return PromptDataset(samples, {}, reader, processor, TEMPLATES["short"], PromptConfig(), 1.0)


def loader_of(dataset, state, *, window_size=3, num_pieces=1, num_updates=1, looks_ahead=False):
    sampler = StreamSampler(len(dataset), seed=0, rank=0, world_size=1, window_size=window_size)

    def stream(start):
        sampler.start = start
        places = StandInDataset(dataset, sampler.candidates, allowed=SIZE)
        return (places[position] for position in sampler)

    return WindowLoader(
        stream,
        dataset,
        window_size=window_size,
        windows_per_epoch=sampler.per_epoch // window_size,
        num_pieces=num_pieces,
        num_updates=num_updates,
        state=state,
        looks_ahead=looks_ahead,
    )


def ids(batch):
    return [item.sample.id for item in batch.items]


def turns_of(loader, count):
    """Turns over several epochs, as Lightning takes them."""
    while count > 0:
        epoch = min(count, len(loader))
        yield from islice(iter(loader), epoch)
        count -= epoch


def take(turn, num_draws):
    """What a stage does: at a window's first turn it may draw, and put it in a place."""
    if turn.update == 0 and turn.is_first:
        for draw in range(num_draws and int(ids(turn.window)[0]) % (num_draws + 1)):
            more = turn.draw(1 + draw)
            items = (*more.items, *turn.window.items)[: len(turn.window)]
            turn.window = PromptBatch(items, turn.window.bad)
    return turn.update, turn.piece, ids(turn.window)


options_of = st.fixed_dictionaries(
    {
        "window_size": st.integers(1, 4),
        "num_pieces": st.integers(1, 3),
        "num_updates": st.integers(1, 3),
    }
)


@settings(deadline=None, max_examples=50)
@given(options=options_of, num_draws=st.integers(0, 2), stop=st.integers(0, 30))
def test_a_state_at_any_turn_leads_to_the_same_remaining_turns(text_set, options, num_draws, stop):
    """A step that was not over is taken anew; one that was is not."""
    loader = loader_of(text_set, StreamState(), **options)
    states, seen = [loader.state], []
    for turn in turns_of(loader, 40):
        seen.append(take(turn, num_draws))
        states.append(loader.state)
    begun = stop - stop % options["num_pieces"]
    resumed = loader_of(text_set, states[stop], **options)
    # The epoch's rest; Lightning knows how much of it is left, and starts anew behind it.
    left = min(-begun % len(resumed), 40 - begun)
    found = [take(turn, num_draws) for turn in islice(iter(resumed), left)]
    found += [take(turn, num_draws) for turn in turns_of(resumed, 40 - begun - left)]
    assert found == seen[begun:]
    assert resumed.state == states[40]


@settings(deadline=None, max_examples=50)
@given(options=options_of, stop=st.integers(0, 30))
def test_who_looks_ahead_sees_the_same_windows_and_goes_on_from_any_turn(text_set, options, stop):
    plain = loader_of(text_set, StreamState(), **options)
    expected = [take(turn, 0) for turn in turns_of(plain, 40)]
    loader = loader_of(text_set, StreamState(), looks_ahead=True, **options)
    states, seen, following = [loader.state], [], []
    for turn in turns_of(loader, 40):
        seen.append(take(turn, 0))
        following.append(ids(turn.following))
        states.append(loader.state)
    assert seen == expected
    each = options["num_pieces"] * options["num_updates"]
    assert all(following[i] == seen[i + each][2] for i in range(0, 40 - each))
    begun = stop - stop % options["num_pieces"]
    resumed = loader_of(text_set, states[stop], looks_ahead=True, **options)
    left = min(-begun % len(resumed), 40 - begun)
    turns = [*islice(iter(resumed), left), *turns_of(resumed, 40 - begun - left)]
    assert [take(turn, 0) for turn in turns] == seen[begun:]
    assert [ids(turn.following) for turn in turns] == following[begun:]
    assert resumed.state == states[40] == plain.state


@given(options=options_of)
@settings(deadline=None, max_examples=20)
def test_a_window_has_its_turns_and_an_epoch_its_windows(text_set, options):
    loader = loader_of(text_set, StreamState(), **options)
    size, count = options["window_size"], SIZE // options["window_size"]
    each = options["num_pieces"] * options["num_updates"]
    assert len(loader) == count * each
    seen = [take(turn, 0) for turn in turns_of(loader, 2 * len(loader))]
    expected = [(u, p) for u in range(options["num_updates"]) for p in range(options["num_pieces"])]
    windows = [seen[i : i + each] for i in range(0, len(seen), each)]
    for window in windows:
        assert [(update, piece) for update, piece, _ in window] == expected
        assert all(names == window[0][2] for _, _, names in window)
        assert len(window[0][2]) == size
    for part in (windows[:count], windows[count:]):
        names = [name for window in part for name in window[0][2]]
        assert len(names) == count * size
        # One may stand in for the unreadable one.
        assert len(set(names)) >= count * size - 1


def test_draws_come_from_the_stream_behind_the_window_and_are_not_seen_again(text_set):
    loader = loader_of(text_set, StreamState(2), window_size=2)
    turns = iter(loader)
    first = next(turns)
    drawn, counted = [], []
    first.on_draw = counted.append
    drawn = ids(first.draw(2))
    window = ids(first.window)
    following = ids(next(turns).window)
    assert len({*window, *drawn}) == 4
    assert not {*window, *drawn} & set(following)
    assert [ids(batch) for batch in counted] == [drawn]


def test_bad_samples_come_along_with_others_in_their_place(text_set):
    windows = [turn.window for turn in turns_of(loader_of(text_set, StreamState()), 12)]
    bad = [found for window in windows for found in window.bad]
    assert bad
    assert {found.id for found in bad} == {str(SIZE - 1)}
    assert all(len(set(ids(window))) == 3 for window in windows)
    assert isinstance(bad[0], BadSample)


def test_a_turn_knows_its_place():
    batch = PromptBatch(())
    places = [WindowTurn(batch, piece=piece, num_pieces=3) for piece in range(3)]
    assert [turn.is_first for turn in places] == [True, False, False]
    assert [turn.is_last for turn in places] == [False, False, True]
    assert places[0].to("cpu") is places[0]
    with pytest.raises(AssertionError, match="no stream"):
        places[0].draw(1)
