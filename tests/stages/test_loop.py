from dataclasses import replace
from types import SimpleNamespace

import pytest

from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Content
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import OnPolicyModule
from lit_vdistill.stages.on_policy import PolicyLossConfig
from lit_vdistill.stages.optimizer import OptimConfig


@pytest.fixture
def stage(prepare):
    """A stage of groups that take up to 100 + 4 * 25 tokens, at most four of them a piece."""
    stage = prepare(
        OnPolicyModule(
            VLMConfig("tiny/qwen3-vl"),
            [Content()],
            loss=PolicyLossConfig(group_size=4),
            sampling=SamplingConfig(max_completion_tokens=25),
            optim=OptimConfig(max_tokens=800),
        )
    )
    stage.trainer.val_check_batch, stage.trainer.num_training_batches = 6, 12
    stage.trainer.fast_dev_run = False
    stage.trainer.datamodule = SimpleNamespace(
        train_set=SimpleNamespace(longest_prompt=lambda: 100, longest_read=lambda: 100),
        val_set=SimpleNamespace(longest_prompt=lambda: 120),
        loader=SimpleNamespace(batch_size=10),
    )
    return stage


@pytest.mark.parametrize(("every", "is_fine"), [(6, True), (9, True), (4, False), (7, False)])
def test_a_validation_in_the_middle_of_a_step_is_refused(stage, every, is_fine):
    stage.trainer.val_check_batch, stage.trainer.accumulate_grad_batches = every, 3
    if is_fine:
        stage.on_train_start()
        return
    with pytest.raises(ValueError, match=rf"val_check_interval {every} .*set a multiple of 3"):
        stage.on_train_start()


def test_an_epoch_that_ends_within_a_window_is_refused(stage):
    """Two updates of two pieces are a window: 6 pieces are one and a half."""
    stage.trainer.accumulate_grad_batches, stage.trainer.val_check_batch = 2, float("inf")
    stage.loss_config = replace(stage.loss_config, updates_per_rollout=2)
    stage.max_tokens = 2000
    stage.trainer.num_training_batches = 6
    with pytest.raises(ValueError, match=r"epoch of 6 pieces .* takes 4: .* multiple of 4"):
        stage.on_train_start()
    stage.trainer.fast_dev_run = True
    stage.on_train_start()
    stage.trainer.fast_dev_run, stage.trainer.num_training_batches = False, 8
    stage.on_train_start()


def test_an_untouched_resume_keeps_its_open_window(stage):
    """Saved once more before its first step, e.g. by the validation that runs ahead of it."""
    stage.resumed = {"order": ["s0"]}
    checkpoint = {}
    stage.on_save_checkpoint(checkpoint)
    assert checkpoint["windows"] == [{"order": ["s0"]}]


def test_validating_by_epochs_only_is_fine(stage):
    stage.trainer.val_check_batch, stage.trainer.accumulate_grad_batches = float("inf"), 3
    stage.on_train_start()


def test_a_window_that_may_not_fit_is_refused_with_the_least_number(stage):
    stage.trainer.accumulate_grad_batches = 2
    with pytest.raises(ValueError, match=r"10 prompts .* 200 tokens .*takes 3 of them"):
        stage.on_train_start()
    stage.trainer.accumulate_grad_batches = 3
    stage.on_train_start()


def test_rollouts_that_may_not_fit_are_refused_too(stage):
    """Of validation's eight, at 25 tokens each, behind its longest prompt."""
    stage.trainer.accumulate_grad_batches = 3
    for bound, is_fine in ((320, True), (319, False)):
        stage.sampling = SamplingConfig(max_completion_tokens=25, max_tokens=bound)
        if is_fine:
            stage.on_train_start()
            continue
        with pytest.raises(ValueError, match=r"8 rollouts .* are 320 tokens, but sampling\.max_t"):
            stage.on_train_start()


@pytest.mark.parametrize(("divides_again", "scale"), [(False, 4.0), (True, 16.0)])
def test_a_pieces_share_is_scaled_by_all_that_divides_it(stage, divides_again, scale):
    stage.trainer.accumulate_grad_batches = 4
    stage.trainer.strategy.handles_gradient_accumulation = divides_again
    assert stage.loss_scale() == scale


def test_a_checkpoint_counts_in_the_resuming_runs_pieces(stage):
    stage.trainer.accumulate_grad_batches = 2
    checkpoint = {}
    stage.on_save_checkpoint(checkpoint)
    names = ("ready", "started", "processed", "completed")
    progress = {part: dict.fromkeys(names, 12) for part in ("total", "current")}
    checkpoint["loops"] = {"fit_loop": {"epoch_loop.batch_progress": progress}}
    stage.trainer.accumulate_grad_batches = 3
    stage.on_load_checkpoint(checkpoint)
    assert progress == {part: dict.fromkeys(names, 18) for part in ("total", "current")}


def test_a_checkpoint_of_another_stage_is_refused(stage):
    checkpoint = {}
    stage.on_save_checkpoint(checkpoint)
    assert checkpoint["stage"] == "OnPolicyModule"
    with pytest.raises(ValueError, match="a checkpoint of RMSDModule, but .* OnPolicyModule: name"):
        stage.on_load_checkpoint(checkpoint | {"stage": "RMSDModule"})
