from collections import Counter

import pytest

from lit_vdistill.data.mixture import Mixture, difficulties, mixture_order

LABELS = [("mcq", "easy")] * 30 + [("ocr", "hard")] * 30


def order(mixture, epoch=0, labels=LABELS):
    return mixture_order(labels, mixture, epoch, seed=1, window_size=10)


def test_weights_by_hand():
    mixture = Mixture({"mcq": 2.0, "hard": 0.0}, {"hard": 4.0}, num_steps=4)
    assert mixture.weight(("mcq", "easy"), 0) == 2.0
    assert mixture.weight(("ocr", "hard"), 0) == 0.0
    assert mixture.weight(("mcq", "hard"), 2) == 1.5 * 2.0
    assert mixture.weight(("mcq", "hard"), 9) == 4.0


def test_from_easy_to_hard():
    mixture = Mixture({"hard": 0.0}, {"easy": 0.0}, num_steps=5)
    drawn = order(mixture)
    assert all(index < 30 for index in drawn[:10])
    assert all(index >= 30 for index in drawn[50:])
    assert all(index >= 30 for index in order(mixture, epoch=1))


def test_steps_are_updates_of_windows_and_not_windows():
    """With two updates a window the third window, not the fifth, is beyond step 4."""
    mixture = Mixture({"hard": 0.0}, {"easy": 0.0}, num_steps=4)

    def drawn(updates, epoch=0):
        return mixture_order(
            LABELS, mixture, epoch, seed=1, window_size=10, updates_per_window=updates
        )

    assert all(index >= 30 for index in drawn(2)[20:])
    assert not all(index >= 30 for index in drawn(1)[20:40])
    half = Mixture({"hard": 0.0}, {"easy": 0.0}, num_steps=8)
    # Step 6 of 8 either way.
    once = mixture_order(LABELS, half, 1, seed=1, window_size=10)
    twice = mixture_order(
        LABELS, Mixture({"hard": 0.0}, {"easy": 0.0}, 16), 1,
        seed=1, window_size=10, updates_per_window=2,
    )  # fmt: skip
    assert once == twice


def test_all_of_a_group_are_seen_before_any_again():
    drawn = order(Mixture({"ocr": 0.0}, {"ocr": 0.0}, num_steps=1))
    assert Counter(drawn) == dict.fromkeys(range(30), 2)
    assert set(drawn[:30]) == set(drawn[30:])


def test_order_is_a_function_of_seed_and_epoch():
    mixture = Mixture({}, {}, num_steps=1)
    assert order(mixture) == order(mixture)
    assert order(mixture) != order(mixture, epoch=1)
    assert len(order(mixture)) == len(LABELS)


@pytest.mark.parametrize(
    ("start", "message"),
    [({"esay": 1.0}, "unknown label 'esay'"), ({"easy": -1.0}, "weight of 'easy' must be >= 0")],
)
def test_mistakes_are_named(start, message):
    with pytest.raises(ValueError, match=message):
        Mixture(start, {}, 1)


def test_nothing_left_to_draw_is_an_error():
    with pytest.raises(ValueError, match="at step 0 all samples weigh 0"):
        order(Mixture({"easy": 0.0, "hard": 0.0}, {}, num_steps=1))


def test_difficulties_are_thirds_of_the_pools_quality():
    qualities = [0.9, 0.1, None, 0.5, 0.8, 0.2, 0.4]
    assert difficulties(qualities) == ["easy", "hard", "medium", "medium", "easy", "hard", "medium"]
    assert difficulties([None, None]) == ["medium", "medium"]
