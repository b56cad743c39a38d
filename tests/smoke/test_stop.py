"""A run that is told to stop loses nothing and says so."""

import csv
import os
import signal

import pytest
import torch

from lit_vdistill.stages.loop import StepLoop

STEPS = ["--trainer.max_steps=4", "--trainer.val_check_interval=4", "--model.loss.group_size=2"]


def weights(folder):
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"], checkpoint["global_step"]


def curves_to(folder):
    """Options of a table of every step."""
    logger = "--trainer.logger"
    return [
        f"{logger}=lit_vdistill.tracking.csv_curves.CSVCurves",
        f"{logger}.save_dir={folder}",
        f"{logger}.name=",
        f"{logger}.version=csv",
        "--trainer.log_every_n_steps=1",
    ]


def steps_in(folder):
    """Steps whose loss is in the table that was written last."""
    with (folder / "csv" / "metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_a_run_that_collapses_stops_where_it_is_told_to_and_goes_on_to_the_same_end(
    small_run, tmp_path, rewarded_by_text, capsys
):
    """Of callbacks behind it in the list, the teacher's update is in the checkpoint."""
    health = [
        "--trainer.callbacks=callbacks.TrainingHealth",
        "--trainer.callbacks.window=2",
        "--trainer.callbacks.limits.no_signal=-1.0",
        "--trainer.callbacks+=callbacks.EMATeacherUpdate",
        "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
        "--trainer.callbacks.save_last=true",
        "--trainer.callbacks.enable_version_counter=false",
    ]

    def fit(name, stop, *more):
        out = tmp_path / name
        mine = [f"--trainer.callbacks.folder={out}", f"--trainer.callbacks.stop={stop}"]
        kept = f"--trainer.callbacks.dirpath={out}/checkpoints"
        mine += [*health[3:], kept, *curves_to(out)]
        small_run("visd", out, *STEPS, *health[:3], *mine, *more)
        return out

    whole = fit("whole", "false")
    with pytest.raises(SystemExit) as caught:
        fit("stopped", "true")
    assert caught.value.code == 3
    stopped = tmp_path / "stopped"
    last = stopped / "checkpoints" / "last.ckpt"
    said = capsys.readouterr().err
    assert "stopped by TrainingHealth (" in said
    assert f"no_signal) behind step 2; go on with --ckpt_path {last}" in said
    assert weights(stopped)[1] == 2
    assert steps_in(stopped) == [0, 1]
    fit("stopped", "true", f"--ckpt_path={last}")
    expected, state = weights(whole)[0], weights(stopped)[0]
    assert [name for name, value in expected.items() if not torch.equal(value, state[name])] == []
    assert (whole / "health.jsonl").read_text() == (stopped / "health.jsonl").read_text()


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
            small_run("visd", stopped, *STEPS, *pieces, *curves_to(stopped))
    assert caught.value.code == code
    assert signal.getsignal(number) is before
    last = stopped / "checkpoints" / "last.ckpt"
    said = capsys.readouterr().err
    assert f"stopped by {signal.Signals(number).name} behind step 2; go on with --ckpt_path" in said
    assert str(last) in said
    assert weights(stopped)[1] == 2
    assert steps_in(stopped) == [0, 1]
    small_run("visd", stopped, *STEPS, *pieces, *curves_to(stopped), f"--ckpt_path={last}")
    assert steps_in(stopped) == [2, 3]
    expected, state = weights(whole)[0], weights(stopped)[0]
    assert [name for name, value in expected.items() if not torch.equal(value, state[name])] == []
