import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1200)]


def sweep_file(folder):
    """Two values of the rate by two of the KL, two steps each on a world of its own."""
    small = {
        "stage1_config": "null", "model.policy.path": "tiny/qwen3-vl",
        "model.sampling.max_completion_tokens": 6, "model.validation.num_samples": 2,
        "model.loss.group_size": 2, "data.sources.media_root": folder / "world",
        "data.sources.cache_dir": folder / "frames", "data.loader.batch_size": 3,
        "data.loader.num_workers": 0, "data.loader.memory_gib": 0.25,
        "data.world.train_videos": 2, "data.world.val_videos": 1, "data.world.test_videos": 1,
        "trainer.max_steps": 2, "trainer.val_check_interval": 2,
        "trainer.enable_model_summary": "false", "trainer.logger.offline": "false",
    }  # fmt: skip
    overrides = [f"--{key}={value}" for key, value in small.items()]
    command = ["${env}", "${interpreter}", "-m", "${program}", "fit", "--config=configs/grpo.yaml"]
    found = {
        "name": "tiny",
        "program": "lit_vdistill",
        "command": [*command, *overrides, "${args}"],
        "method": "grid",
        "metric": {"name": "val/score", "goal": "maximize"},
        "parameters": {
            "model.optim.lr": {"values": [0.001, 0.0001]},
            "model.loss.kl_coef": {"values": [0.0, 0.1]},
            "seed_everything": {"value": 3},
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    return path


def results_of(folder):
    return {path.name: path for path in sorted((folder / "results").glob("tiny/*.json"))}


def command_of(folder, *more):
    options = ["--folder", folder / "runs", "--results", folder / "results", "--threads", "1"]
    module = [sys.executable, "-m", "experiments.sweep", folder / "tiny.yaml"]
    return [str(word) for word in (*module, *options, *more)]


def first_rollouts(folder, record):
    run = folder / "runs" / f"{record['config_hash']}-{record['seed']}"
    rows = [json.loads(line) for line in (run / "rollouts.jsonl").open()]
    return [(row["sample"], row["response"]) for row in rows if row["step"] == 0]


def test_a_sweep_that_is_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    sweep_file(tmp_path)
    with subprocess.Popen(command_of(tmp_path), start_new_session=True) as running:
        try:
            second, until = [], time.monotonic() + 600
            while not (results_of(tmp_path) and len(second) == 2):
                assert running.poll() is None, "ended before it was stopped"
                assert time.monotonic() < until
                second = list((tmp_path / "runs").glob("*-3/log.txt"))
                time.sleep(0.2)
            running.send_signal(signal.SIGTERM)  # to the runner alone, which ends the fit
            assert running.wait(60) == 128 + signal.SIGTERM
            with pytest.raises(ProcessLookupError):
                os.killpg(running.pid, 0)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    before = {name: path.read_bytes() for name, path in results_of(tmp_path).items()}
    assert list(before) == ["lr-0.001_kl_coef-0.0-3.json"]
    assert not list((tmp_path / "runs").glob("*/crashed"))

    subprocess.run(command_of(tmp_path, "--workers", "2"), check=True)
    after = results_of(tmp_path)
    assert len(after) == 4
    assert all(after[name].read_bytes() == text for name, text in before.items())
    told = subprocess.run(command_of(tmp_path, "--list"), check=True, capture_output=True)
    assert told.stdout.decode().splitlines()[-1].startswith("0.0 hours to run")

    records = [json.loads(path.read_text()) for path in after.values()]
    drawn = [first_rollouts(tmp_path, record) for record in records]
    assert len(drawn[0]) >= 2
    assert all(rows == drawn[0] for rows in drawn)  # common random numbers
    for record in records:
        assert record["threads"] == 1
        assert record["steps"] == 2
        assert record["after"]["val"].keys() >= {"greedy", "mean", "best", "reward", "mean/ocr"}
        assert record["tokens"] > 0
        assert [step for step, _ in record["curves"]["reward/total"]] == [1, 2]
    assert len({record["config_hash"] for record in records}) == 4
    assert Path("experiments/results/tiny").exists() is False
