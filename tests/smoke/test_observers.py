import torch


def test_observers_change_no_weight(small_run, tmp_path):
    """Three steps with and without the callbacks that only look."""
    small = ["--model.loss.group_size=2", "--trainer.max_steps=3", "--trainer.val_check_interval=3"]
    keep = [
        "--trainer.callbacks=lightning.pytorch.callbacks.ModelCheckpoint",
        "--trainer.callbacks.save_last=true",
    ]
    small_run("rmsd", tmp_path / "with", *small)
    alone = [*keep, f"--trainer.callbacks.dirpath={tmp_path}/without/checkpoints"]
    small_run("rmsd", tmp_path / "without", *small, *alone)
    states = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("with", "without")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
