from types import SimpleNamespace

import pytest

from callbacks import EMATeacherUpdate, LambdaAnnealing, ProximityAnnealing
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.schedules import linear
from lit_vdistill.rewards import Answer, ThinkPoint
from lit_vdistill.stages import OnPolicyModule, VISDModule
from lit_vdistill.stages.replay import CreditConfig


@pytest.fixture
def stage(monkeypatch):
    """A VISD stage without networks, which counts how its teacher is moved."""
    stage = VISDModule(VLMConfig("tiny/qwen3-vl"), [Answer(), ThinkPoint(sigma_s=4.0)])
    stage.rates = []
    stage.in_place = []

    def update(rate, *, in_place=False):
        stage.rates.append(rate)
        stage.in_place.append(in_place)

    monkeypatch.setattr(stage, "update_teacher", update)
    monkeypatch.setattr(stage, "log", lambda *args, **kwargs: None)
    return stage


def at(step):
    return SimpleNamespace(global_step=step)


def test_linear_by_hand():
    assert [linear(s, 0.5, 0.0, 600) for s in (0, 300, 600, 1200)] == [0.5, 0.25, 0.0, 0.0]
    assert [linear(s, 4.0, 1.0, 3) for s in (0, 1, 2, 3)] == [4.0, 3.0, 2.0, 1.0]


def test_lambda_is_a_function_of_the_step(stage):
    annealing = LambdaAnnealing(num_steps=10)
    seen = []
    for step in (0, 5, 9, 10, 50):
        annealing.on_train_batch_start(at(step), stage, None, 0)
        seen.append(stage.credit_mix)
    assert seen == pytest.approx([0.5, 0.25, 0.05, 0.0, 0.0])


def test_without_a_mix_there_is_nothing_to_anneal(stage):
    """`--model.credit.mix 0` alone makes GRPO of VISD."""
    stage.credit_config = CreditConfig(mix=0.0)
    LambdaAnnealing(num_steps=10).on_train_batch_start(at(0), stage, None, 0)
    assert stage.credit_mix == 0.0


def test_sigma_narrows_in_any_stage_with_rollouts(stage):
    annealing = ProximityAnnealing(start_s=4.0, end_s=1.0, num_steps=6)
    grpo = OnPolicyModule(VLMConfig("tiny/qwen3-vl"), [ThinkPoint()])
    grpo.log = stage.log
    for module, step, expected in ((stage, 2, 3.0), (grpo, 6, 1.0), (grpo, 600, 1.0)):
        annealing.on_train_batch_start(at(step), module, None, 0)
        (reward,) = (r for r in module.rewards if isinstance(r, ThinkPoint))
        assert reward.sigma_s == expected
        (reported,) = (r for r in module.validation.rewards if isinstance(r, ThinkPoint))
        assert reported.sigma_s == 4.0


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("ema", [0.01] * 4),
        ("ema_in_place", [0.01] * 4),
        ("current", [1.0] * 4),
        ("sync_n", [1.0, 1.0]),
        ("frozen", []),
    ],
)
def test_the_teacher_moves_once_an_optimizer_step(stage, mode, expected):
    update = EMATeacherUpdate(mode=mode, rate=0.01, every_n_steps=2)
    update.on_train_start(at(0), stage)
    for step in (0, 1, 1, 2, 2, 3, 4):  # two batches a step, and one before the first
        update.on_train_batch_end(at(step), stage, None, None, 0)
    assert stage.rates == expected
    assert stage.in_place == [mode == "ema_in_place"] * len(expected)


def test_a_resumed_run_does_not_move_the_teacher_for_its_first_batch_twice(stage):
    update = EMATeacherUpdate()
    update.on_train_start(at(7), stage)
    update.on_train_batch_end(at(7), stage, None, None, 0)
    update.on_train_batch_end(at(8), stage, None, None, 0)
    assert stage.rates == [0.01]
