import csv
import hashlib
import json

import pytest
import torch

ALARMED = [
    "--trainer.callbacks=callbacks.TrainingHealth",
    "--trainer.callbacks.window=1",
    "--trainer.callbacks.limits.entropy_fall=1000.0",  # at least a thousand times the beginning
    "--trainer.callbacks.limits.no_signal=-1.0",
]
"""Every step has an alarm, whatever its numbers are: `no_signal` at once, entropy at the second."""


def test_observers_change_no_weight(small_run, tmp_path):
    """Three steps with and without the callbacks that only look, and W&B that shows frames."""
    small = ["--model.loss.group_size=2", "--trainer.max_steps=3", "--trainer.val_check_interval=3"]
    keep = [
        "--trainer.callbacks=lightning.pytorch.callbacks.ModelCheckpoint",
        "--trainer.callbacks.save_last=true",
    ]
    logger = ["class_path=lightning.pytorch.loggers.WandbLogger", "offline=true"]
    logger += [f"save_dir={tmp_path}/with"]
    small_run("rmsd", tmp_path / "with", *small, *(f"--trainer.logger.{o}" for o in logger))
    assert list(tmp_path.glob("with/wandb/offline-run-*/files/media/table/rollout/*.json"))
    assert (tmp_path / "with" / "health.jsonl").read_text() == ""
    alone = [*keep, f"--trainer.callbacks.dirpath={tmp_path}/without/checkpoints"]
    small_run("rmsd", tmp_path / "without", *small, *alone)
    states = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("with", "without")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_alarm_changes_no_weight_and_stands_in_the_curves(
    small_run, tmp_path, rewarded_by_text, caplog
):
    states = []
    for name, more in (("with", ALARMED), ("without", [])):
        out = tmp_path / name
        folder = [f"--trainer.callbacks.folder={out}"] if more else []
        keep = "" if not more else "+"
        small_run(
            "visd",
            out,
            *("--model.loss.group_size=2", "--trainer.max_steps=3"),
            "--trainer.val_check_interval=3",
            *("--trainer.logger=lit_vdistill.tracking.csv_curves.CSVCurves",),
            f"--trainer.logger.save_dir={out}",
            *("--trainer.logger.name=", "--trainer.logger.version=csv"),
            "--trainer.log_every_n_steps=1",
            *more,
            *folder,
            f"--trainer.callbacks{keep}=lightning.pytorch.callbacks.ModelCheckpoint",
            *("--trainer.callbacks.save_last=true", f"--trainer.callbacks.dirpath={out}"),
        )
        states.append(torch.load(out / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    alarms = {row["alarm"]: row for row in map(json.loads, (tmp_path / "with/health.jsonl").open())}
    assert {"no_signal": 0, "entropy_fall": 1}.items() <= {
        name: row["step"] for name, row in alarms.items()
    }.items()
    with (tmp_path / "with/csv/metrics.csv").open() as file:
        curves = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert [row["health/no_signal"] for row in curves] == ["0.0"] * 3
    assert [row["health/entropy_fall"] for row in curves] == ["", "1.0", "1.0"]
    assert "step 1: entropy_fall: the median of policy/entropy over the last 1 steps" in caplog.text


def test_a_card_says_what_a_run_was(small_run, tmp_path):
    """Its fingerprints are those of the files, and a stopped run's card says so."""
    small = ["--model.loss.group_size=2", "--trainer.max_steps=1", "--trainer.val_check_interval=1"]
    logs = ["--trainer.logger=lit_vdistill.tracking.csv_curves.CSVCurves"]
    logs += [f"--trainer.logger.save_dir={tmp_path}", "--trainer.logger.name="]
    small_run("rmsd", tmp_path, *small, *logs, "--trainer.logger.version=csv")
    card = json.loads((tmp_path / "run_card.json").read_text())
    config = hashlib.sha256((tmp_path / "config.yaml").read_bytes()).hexdigest()
    assert config.startswith(card["config"])
    assert (card["outcome"], card["stage"], card["seed"]) == ("finished", "RMSDModule", 0)
    assert card["steps"] == {"from": 0, "to": 1}
    assert card["seconds"] > 0
    assert torch.__version__.startswith(card["packages"]["torch"])
    assert card["strategy"]["name"] == "SingleDeviceStrategy"
    assert card["data"].keys() == {"student", "training", "held out", "teacher pool"}
    assert card["data"]["student"] is None  # random weights have no files
    assert len(card["data"]["training"]) == 12
    assert card["readings"]["model.matching.mode"] == "quality"
    assert "run_card" in (tmp_path / "csv/hparams.yaml").read_text()
    with pytest.raises(SystemExit):
        small_run("rmsd", tmp_path / "b", *small, "--model.matching.pool_size=9")
    stopped = json.loads((tmp_path / "b/run_card.json").read_text())
    assert (stopped["outcome"], stopped["steps"]["to"]) == ("stopped by ValueError", 0)


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
        "--trainer.callbacks+=callbacks.TrainingHealth",
        f"--trainer.callbacks.folder={tmp_path}",
        "--trainer.callbacks.window=1",
        "--trainer.callbacks.limits.no_signal=-1.0",
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
    alarms = [json.loads(line) for line in (run_dir / "health.jsonl").open()]
    assert [row["step"] for row in alarms if row["alarm"] == "no_signal"] == [0]
    records = [json.loads(path.read_text()) for path in (run_dir / "credit").glob("*.json")]
    assert sorted(record["step"] for record in records) == steps
    return steps
