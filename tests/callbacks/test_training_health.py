import json
import logging
from types import SimpleNamespace

import pytest

from callbacks import StopOnSignal, TrainingHealth
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Answer
from lit_vdistill.stages import OnPolicyModule

DEAD = {"rollout/no_signal": 1.0, "rollout/reward_std": 0.0}
ALIVE = {"rollout/no_signal": 0.2, "rollout/reward_std": 0.1}


@pytest.fixture
def stage(monkeypatch):
    """A stage without networks, which keeps what is logged."""
    stage = OnPolicyModule(VLMConfig("tiny/qwen3-vl"), [Answer()])
    stage.logged = {}
    monkeypatch.setattr(stage, "log", lambda name, value, **_: stage.logged.update({name: value}))
    return stage


def trainer(step=0, *, rank=0, callbacks=(), **metrics):
    return SimpleNamespace(
        global_step=step,
        is_global_zero=rank == 0,
        fast_dev_run=False,
        callbacks=list(callbacks),
        callback_metrics={name.replace("__", "/"): value for name, value in metrics.items()},
    )


def take(health, stage, step, values, is_last=True, **about):
    """A piece of a step, as Lightning tells of it: the step is counted already."""
    stage._values = dict(values)
    turn = SimpleNamespace(is_last=is_last)
    health.on_train_batch_end(trainer(step + 1, **about), stage, None, turn, 0)


def rows(folder):
    return [json.loads(line) for line in (folder / "health.jsonl").open()]


def test_an_alarm_is_logged_written_and_told_once(stage, tmp_path, caplog):
    health = TrainingHealth(str(tmp_path), window=2)
    health.on_train_start(trainer(), stage)
    assert rows(tmp_path) == []
    with caplog.at_level(logging.WARNING):
        for step in range(4):
            take(health, stage, step, DEAD, is_last=False)
            take(health, stage, step, DEAD)
    (row,) = rows(tmp_path)
    assert (row["step"], row["alarm"], row["value"], row["limit"]) == (1, "no_signal", 1.0, 0.9)
    assert "model.loss.resample_no_signal" in row["mend"]
    assert stage.logged == {"health/no_signal": 1.0}
    assert [record.getMessage().partition(" over")[0] for record in caplog.records] == [
        "step 1: no_signal: the median of rollout/no_signal"
    ]


def test_gradient_norms_are_those_that_lightning_knows(stage, tmp_path):
    health = TrainingHealth(str(tmp_path), window=2)
    for step in range(6):
        take(health, stage, step, ALIVE, policy__grad_norm=0.1 if step < 3 else 9.0)
    assert [alarm.alarm for alarm in health.watch.alarms] == ["gradient/policy"]


def test_others_than_the_first_process_only_decide(stage, tmp_path, caplog):
    stopper = StopOnSignal()
    health = TrainingHealth(str(tmp_path), window=1, stop=True)
    health.on_train_start(trainer(rank=1, callbacks=[stopper]), stage)
    take(health, stage, 0, DEAD, rank=1, callbacks=[stopper])
    assert stage.logged == {"health/no_signal": 0.0}
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []
    end = trainer(1, rank=1)
    end.checkpoint_callback = None
    stopper.on_train_batch_end(end, stage, None, SimpleNamespace(is_last=True), 0)
    with pytest.raises(SystemExit) as stop:
        stopper.on_train_batch_start(end, stage, None, 1)
    assert stop.value.code == 3


def test_a_run_that_nobody_would_stop_is_refused(stage, tmp_path):
    with pytest.raises(ValueError, match=r"stop is true, but no callbacks\.StopOnSignal"):
        TrainingHealth(str(tmp_path), stop=True).on_train_start(trainer(), stage)


def test_a_resumed_run_keeps_its_alarms_and_another_run_does_not(stage, tmp_path):
    first = TrainingHealth(str(tmp_path), window=1)
    take(first, stage, 0, DEAD)
    state = first.state_dict()
    again = TrainingHealth(str(tmp_path), window=1)
    again.load_state_dict(state)
    again.on_train_start(trainer(1), stage)
    take(again, stage, 1, DEAD)
    assert [row["step"] for row in rows(tmp_path)] == [0]
    TrainingHealth(str(tmp_path)).on_train_start(trainer(), stage)
    assert rows(tmp_path) == []
