"""A run that is told to stop loses nothing and says so."""

import os
import signal

import pytest
import torch

from lit_vdistill.stages.loop import StepLoop

STEPS = ["--trainer.max_steps=4", "--trainer.val_check_interval=4", "--model.loss.group_size=2"]


def weights(folder):
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"], checkpoint["global_step"]


@pytest.mark.parametrize(
    ("number", "code", "slurm"),
    [
        (signal.SIGTERM, 143, False),
        pytest.param(signal.SIGINT, 130, False, marks=pytest.mark.matrix),
        pytest.param(signal.SIGUSR1, 138, True, marks=pytest.mark.matrix),
    ],
)
def test_a_told_run_stops_behind_its_step_and_goes_on_to_the_same_end(
    small_run, tmp_path, rewarded_by_text, monkeypatch, capsys, number, code, slurm
):
    """Both pieces of the step and the teacher's update are taken before the checkpoint."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    pieces = ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=8"]
    small_run("visd", whole, *STEPS, *pieces)
    if slurm:
        monkeypatch.setenv("SLURM_JOB_ID", "1")
    step = StepLoop.training_step

    def told(self, turn, batch_idx):
        if self.global_step == 1 and turn.is_first:
            os.kill(os.getpid(), number)
        return step(self, turn, batch_idx)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(StepLoop, "training_step", told)
        with pytest.raises(SystemExit) as caught:
            small_run("visd", stopped, *STEPS, *pieces)
    assert caught.value.code == code
    assert signal.getsignal(number) is before
    last = stopped / "checkpoints" / "last.ckpt"
    said = capsys.readouterr().err
    assert f"stopped by {signal.Signals(number).name} behind step 2; go on with --ckpt_path" in said
    assert str(last) in said
    assert weights(stopped)[1] == 2
    small_run("visd", stopped, *STEPS, *pieces, f"--ckpt_path={last}")
    expected, state = weights(whole)[0], weights(stopped)[0]
    assert [name for name, value in expected.items() if not torch.equal(value, state[name])] == []
