"""Rate limits, on a clock that jumps to whatever is waited for."""

import asyncio
import selectors

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_vdistill.served.limits import WindowLimit

TIMER_S = 1.1e-3
"""What a wait is longer than it has to be, as timers may fire early."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only where all wait."""

    def __init__(self):
        self.now = 1000.0
        loop = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout=None):
                loop.now += max(timeout or 0.0, 0.0)
                return super().select(0)

        super().__init__(Selector())

    def time(self):
        return self.now


def times_of(most, calls, window_s=60.0):
    """When each of (seconds after the first, amount, amount in truth) was let through."""

    async def run():
        loop = asyncio.get_running_loop()
        limit, begun_s, order = WindowLimit(most, window_s, loop.time), loop.time(), []

        async def call(number, after_s, amount, truth):
            await asyncio.sleep(after_s)
            taken = await limit.take(float(amount))
            order.append(number)
            limit.correct(taken, float(truth))
            return taken.at_s - begun_s

        calls_made = (call(i, *told) for i, told in enumerate(calls))
        return await asyncio.gather(*calls_made), order

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(run())


def test_all_that_fits_goes_at_once_and_the_rest_as_the_first_leave():
    times, order = times_of(5, [(0.0, 1, 1)] * 12)
    assert times == pytest.approx([0.0] * 5 + [60.0] * 5 + [120.0] * 2, abs=2 * TIMER_S)
    assert order == list(range(12))


def test_a_full_window_is_not_filled_again_before_it_has_passed():
    """What a leaky bucket gets wrong: five at 50 s would be ten within eleven seconds."""
    times, _ = times_of(5, [(0.0, 1, 1)] + [(50.0, 1, 1)] * 9)
    expected = [0.0] + [50.0] * 4 + [60.0] + [110.0] * 4
    assert sorted(times) == pytest.approx(expected, abs=2 * TIMER_S)


def test_what_is_more_than_there_ever_is_goes_alone():
    times, _ = times_of(45, [(0.0, 68, 68), (0.0, 1, 1), (0.0, 45, 45)])
    assert times == pytest.approx([0.0, 60.0, 120.0], abs=2 * TIMER_S)


def test_a_guess_that_is_corrected_makes_room():
    times, _ = times_of(45, [(0.0, 68, 15)] + [(1.0, 15, 15)] * 3)
    assert sorted(times) == pytest.approx([0.0, 1.0, 1.0, 60.0], abs=2 * TIMER_S)


def test_none_lets_everything_through():
    assert times_of(None, [(0.0, 1e9, 1e9)] * 50)[0] == [0.0] * 50


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(0, 12), st.integers(0, 12)),
        min_size=1, max_size=30,
    )
)  # fmt: skip
def test_no_window_holds_more_and_nobody_waits_longer_than_that_takes(calls):
    """Corrected at once, a window holds what was true; one that is too large goes alone."""
    most, window_s = 10, 60.0
    times, order = times_of(most, [(float(at), *amounts) for at, *amounts in calls], window_s)
    came = [calls[number][0] for number in order]
    assert came == sorted(came)  # first come, first served
    gone = []  # (time, amount in truth) of those that went before
    for number in order:
        at_s, amount, truth = times[number], calls[number][1], calls[number][2]
        held = [a for t, a in gone if t > at_s - window_s]
        assert sum(held) + amount <= most or not held
        came_s = max([float(calls[number][0]), *(t for t, _ in gone[-1:])])
        if at_s > came_s + TIMER_S:  # it waited: a moment ago there was no room
            before_s = at_s - 2 * TIMER_S
            assert sum(a for t, a in gone if t > before_s - window_s) + amount > most
        gone.append((at_s, truth))
