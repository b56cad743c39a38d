"""Alarms over scripted metrics, and silence over the curves of real runs."""

import json
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.methods import CATALOGUE

CURVES = json.loads(Path(__file__).with_name("health_curves.json").read_text())
WELL = {
    "rollout/no_signal": 0.25,
    "reward/total": 0.5,
    "reward/content": 0.4,
    "rollout/reward_std": 0.1,
    "rollout/length": 30.0,
    "rollout/truncated": 0.01,
    "policy/entropy": 0.25,
    "policy/grad_norm": 0.05,
    "disc/accuracy": 0.6,
    "disc/grad_norm": 0.4,
    "kl/ref": 0.01,
    "train/loss": 0.6,
}


@pytest.fixture
def watch():
    from lit_vdistill.tracking.health import HealthWatch

    return HealthWatch(window=4)


def well(step, **changes):
    """Metrics of a healthy step, whose values never stand still."""
    steady = ("rollout/no_signal", "rollout/reward_std")
    noise = 1.0 + 0.01 * (step % 3)
    found = {name: value if name in steady else value * noise for name, value in WELL.items()}
    return found | {name.replace("__", "/"): value for name, value in changes.items()}


def run(watch, steps):
    """The names of the alarms of each step that has one."""
    found = {}
    for step, metrics in enumerate(steps):
        if alarms := watch.see(step, metrics):
            found[step] = [alarm.alarm for alarm in alarms]
    return found


def alarms_over(columns, window):
    """What is told over a stored run."""
    from lit_vdistill.tracking.health import HealthWatch

    watch = HealthWatch(window)
    for step, values in enumerate(zip(*columns.values(), strict=True)):
        row = zip(columns, values, strict=True)
        watch.see(step, {key: float("nan") if v is None else v for key, v in row})
    return watch.alarms


@pytest.mark.parametrize(("name", "window"), list(product(CURVES["runs"], (10, 20))))
def test_nothing_is_found_in_runs_that_went_well(name, window):
    assert alarms_over(CURVES["runs"][name], window) == []


@pytest.mark.parametrize("window", [10, 20])
def test_a_real_collapse_is_told_while_it_can_be_stopped(window):
    """GAD's policy leaves its start from step 60 on; its format goes behind step 100."""
    kl, content = alarms_over(CURVES["collapsed"]["gad"], window)
    assert (kl.alarm, content.alarm) == ("kl", "reward_fall/content")
    assert 60 < kl.step < 100 < content.step < 125


def test_every_recipe_of_the_catalogue_has_been_watched():
    fitted = {entry.name for entry in CATALOGUE if not entry.student}
    assert fitted - set(CURVES["runs"]) - set(CURVES["collapsed"]) == set()


@pytest.mark.parametrize(
    ("alarm", "metric", "value"),
    [
        ("no_signal", "rollout/no_signal", 0.95),
        ("constant_reward/content", "reward/content", 0.2),
        ("constant_reward/total", "reward/total", 0.4),
        ("entropy_rise", "policy/entropy", 0.8),
        ("entropy_fall", "policy/entropy", 0.04),
        ("length_rise", "rollout/length", 96.0),
        ("length_fall", "rollout/length", 9.0),
        ("truncated", "rollout/truncated", 0.28),
        ("kl", "kl/ref", 0.3),
        ("discriminator_sure", "disc/accuracy", 0.97),
        ("discriminator_lost", "disc/accuracy", 0.43),
        ("gradient/policy", "policy/grad_norm", 0.6),
        ("gradient/disc", "disc/grad_norm", 4.1),
    ],
)
def test_each_collapse_raises_its_alarm_once(watch, alarm, metric, value):
    """Twelve steps go well, from the thirteenth on (12) one metric is off; a window has four."""
    steps = [well(step) for step in range(12)]
    steps += [well(step) | {metric: value} for step in range(12, 40)]
    found = run(watch, steps)
    assert [name for names in found.values() for name in names] == [alarm]
    (step,) = found
    assert 13 <= step <= 15
    (told,) = watch.alarms
    assert (told.step, told.metric, told.last, told.window) == (step, metric, value, 4)
    assert told.beginning == pytest.approx(WELL[metric], rel=0.02)
    assert told.mend in str(told)
    assert f"step {step}: {alarm}: " in str(told)


@pytest.mark.parametrize("metric", WELL)
def test_a_step_in_four_that_is_off_by_far_is_no_collapse(watch, metric):
    steps = [well(s) | ({metric: 50.0} if s % 4 == 3 and s > 8 else {}) for s in range(40)]
    assert run(watch, steps) == {}


def test_gradient_norms_are_told_of_at_the_third_spike_of_a_window(watch):
    steps = [well(step) for step in range(20)]
    steps[9]["policy/grad_norm"] = steps[11]["policy/grad_norm"] = 2.0
    assert run(watch, steps) == {}
    steps[12]["policy/grad_norm"] = 2.0
    watch = type(watch)(window=4)
    assert run(watch, steps) == {12: ["gradient/policy"]}
    assert watch.alarms[0].statistic == "third largest"


def test_limits_hold_at_once_and_the_beginning_holds_after_two_windows(watch):
    """Off from the first step on: nothing to compare with, but limits are limits."""
    assert run(watch, [well(s, rollout__no_signal=1.0) for s in range(3)]) == {}
    assert run(watch, [well(s, rollout__no_signal=1.0) for s in range(5)]) == {0: ["no_signal"]}
    watch = type(watch)(window=4)
    longer = [well(s) if s < 4 else well(s, rollout__length=900.0) for s in range(8)]
    assert run(watch, longer[:7]) == {}
    watch = type(watch)(window=4)
    assert run(watch, longer) == {7: ["length_rise"]}


def test_a_reward_that_is_always_paid_in_full_is_learnt(watch):
    assert run(watch, [well(s, reward__content=1.0) for s in range(20)]) == {}


@pytest.mark.parametrize(
    ("name", "before", "after", "told"),
    [
        ("content", 0.4, 0.11, [12, "reward_fall/content"]),
        ("content", 0.4, 0.0, [12, "reward_fall/content"]),
        ("content", 0.4, -0.2, [11, "reward_fall/content"]),
        ("total", 2.0, 0.5, [12, "reward_fall/total"]),
        ("content", 0.4, 0.14, []),
        ("content", 0.04, 0.0, []),  # began near nothing
        ("content", -0.4, -2.0, []),
        ("disc", 0.4, 0.1, []),
    ],
)
def test_a_reward_that_falls_to_a_third_is_told(watch, name, before, after, told):
    """From the eleventh step on (10); a window has four, two of which make its median."""
    values = [before] * 10 + [after] * 30
    noise = [1e-3 * (step % 5) for step in range(40)]
    steps = [well(s) | {f"reward/{name}": values[s] + noise[s]} for s in range(40)]
    found = run(watch, steps)
    assert [[step, *names] for step, names in found.items()] == ([told] if told else [])


def test_what_a_schedule_holds_is_no_constant_reward(watch):
    assert run(watch, [well(s, schedule__sigma_s=0.5) for s in range(20)]) == {}


def test_a_limit_of_0_below_is_never_met(watch):
    from lit_vdistill.tracking.health import HealthLimits

    never = type(watch)(4, HealthLimits(reward_fall=0.0))
    steps = [well(s) | ({"reward/total": -1.0 - s} if s > 9 else {}) for s in range(40)]
    assert run(never, steps) == {}


def test_one_rollout_a_prompt_has_no_siblings_to_differ_from(watch):
    steps = [well(s, rollout__no_signal=1.0) for s in range(20)]
    for metrics in steps:
        del metrics["rollout/reward_std"]
    assert run(watch, steps) == {}


def test_the_warm_up_of_the_discriminator_counts_for_nothing(watch):
    rest = {"disc__warmup": 1.0, "disc__accuracy": 0.4, "rollout__no_signal": 1.0}
    at_rest = [well(s, **rest) for s in range(20)]
    assert run(watch, at_rest) == {}
    assert run(watch, [well(s, disc__warmup=0.0) for s in range(20)]) == {}


def test_what_is_missing_or_no_number_is_passed_over(watch):
    """No division by a beginning of 0 either: KL and entropy may begin there."""
    assert run(watch, [{} for _ in range(20)]) == {}
    nothing = {name: float("nan") for name in WELL} | {"kl/ref": float("inf")}
    assert run(watch, [nothing for _ in range(20)]) == {}
    zeros = {"policy/entropy": 0.0, "policy/grad_norm": 0.0, "rollout/length": 0.0}
    assert run(watch, [zeros for _ in range(20)]) == {}
    small = [zeros | {"policy/entropy": 0.02, "rollout/length": 2.0} for _ in range(20)]
    assert run(watch, small) == {}


def test_limits_are_the_users(watch):
    from lit_vdistill.tracking.health import HealthLimits

    steps = [well(s, rollout__no_signal=0.6) for s in range(8)]
    assert run(watch, steps) == {}
    strict = type(watch)(4, HealthLimits(no_signal=0.5, disc_accuracy_high=float("inf")))
    assert run(strict, steps) == {3: ["no_signal"]}
    with pytest.raises(ValueError, match="window is 0, expected 1 step or more"):
        type(watch)(0)


@given(
    cut=st.integers(0, 40),
    values=st.lists(
        st.sampled_from([0.0, 0.01, 0.3, 0.97, 1.0, 30.0, float("nan")]), min_size=40, max_size=40
    ),
)
def test_a_resumed_watch_finds_what_an_uninterrupted_one_finds(cut, values):
    from lit_vdistill.tracking.health import HealthWatch

    steps = [dict.fromkeys(WELL, value) for value in values]
    whole, first, second = (HealthWatch(3) for _ in range(3))
    run(whole, steps)
    run(first, steps[:cut])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for step in range(cut, len(steps)):
        second.see(step, steps[step])
    assert second.alarms == whole.alarms
    assert second.state_dict() == whole.state_dict()
    assert len({alarm.alarm for alarm in whole.alarms}) == len(whole.alarms)


def test_another_window_begins_anew_but_keeps_its_alarms(watch):
    run(watch, [well(s, rollout__no_signal=1.0) for s in range(10)])
    other = type(watch)(window=5)
    other.load_state_dict(watch.state_dict())
    assert other.alarms == watch.alarms
    assert run(other, [well(s, rollout__no_signal=1.0) for s in range(20)]) == {}
