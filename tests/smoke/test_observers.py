import json

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


def test_files_of_a_run_hold_every_step_of_it_once(small_run, tmp_path, rewarded_by_text):
    """Resumed from step 2 of 3, and run once more for one step, all into the same folder."""
    observers = [
        "--model.loss.group_size=2",
        "--trainer.callbacks=lightning.pytorch.callbacks.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={tmp_path}/all",
        "--trainer.callbacks.every_n_train_steps=1",
        "--trainer.callbacks.save_top_k=-1",
        "--trainer.callbacks.filename={step}",
        "--trainer.callbacks+=callbacks.RolloutTable",
        f"--trainer.callbacks.path={tmp_path}/rollouts.jsonl",
        "--trainer.callbacks.every_n_steps=1",
        "--trainer.callbacks+=callbacks.TokenCreditView",
        f"--trainer.callbacks.folder={tmp_path}",
        "--trainer.callbacks.every_n_steps=1",
    ]
    three = ["--trainer.max_steps=3", "--trainer.val_check_interval=3"]
    small_run("visd", tmp_path, *observers, *three)
    assert steps_in(tmp_path) == [0, 1, 2]
    with (tmp_path / "rollouts.jsonl").open("a") as file:
        file.write('{"step": 3, "sam')  # a crash
    small_run("visd", tmp_path, *observers, *three, f"--ckpt_path={tmp_path}/all/step=2.ckpt")
    assert steps_in(tmp_path) == [0, 1, 2]
    one = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"]
    small_run("visd", tmp_path, *observers, *one, "--overwrite")
    assert steps_in(tmp_path) == [0]


def test_without_a_teacher_there_is_no_credit_to_look_at(small_run, tmp_path, rewarded_by_text):
    """`--model.credit.mix 0` alone makes GRPO of the whole recipe."""
    small_run("visd", tmp_path, "--model.loss.group_size=2", "--model.credit.mix=0")
    assert (tmp_path / "rollouts.jsonl").stat().st_size > 0
    assert not (tmp_path / "credit").exists()


def steps_in(run_dir):
    """Steps of the rollouts, each of which has as many rows; credit records agree."""
    rows = [json.loads(line)["step"] for line in (run_dir / "rollouts.jsonl").open()]
    steps = sorted(set(rows))
    assert {rows.count(step) for step in steps} == {6}
    records = [json.loads(path.read_text()) for path in (run_dir / "credit").glob("*.json")]
    assert sorted(record["step"] for record in records) == steps
    return steps
