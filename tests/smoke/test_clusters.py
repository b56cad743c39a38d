"""Configs of many GPUs, as shipped but for device and size, on two CPU processes."""

import csv
import json
import math
from pathlib import Path

import pytest
import yaml

CLUSTERS = sorted(p for p in Path("configs/cluster").glob("*.yaml") if "_" in p.stem)


def on_cpu(config, folder):
    """What a config needs to run on two CPU processes, as a file to put behind it."""
    trainer = yaml.safe_load(config.read_text())["trainer"]
    nodes = trainer.get("num_nodes", 1)
    changes = {"accelerator": "cpu", "devices": 2 // nodes}
    if isinstance(trainer["strategy"], dict):
        name = trainer["strategy"]["class_path"].rpartition(".")[-1]
        if name == "DeepSpeedStrategy":
            changes["strategy"] = {"class_path": "cpu_deepspeed.CPUDeepSpeed"}
        else:
            assert trainer["strategy"]["init_args"]["data_parallel_size"] == trainer["devices"]
            changes["strategy"] = {"init_args": {"data_parallel_size": 2}}
    path = folder / "cpu.yaml"
    path.write_text(yaml.safe_dump({"trainer": changes}))
    return path, nodes, trainer["precision"]


def command(method, config, cpu, precision, data, student, out):
    dtype = "bfloat16" if precision == "bf16-true" else "float32"
    return [
        "fit",
        *("--config", f"configs/{method}.yaml"),
        *("--config", str(config)),
        *("--config", str(cpu)),
        f"--run_dir={out}",
        "--stage1_config=null",
        f"--model.policy.path={student}",
        f"--model.policy.dtype={dtype}",
        "--model.policy.freeze_vision=false",
        "--model.loss.group_size=2",
        "--model.sampling.max_completion_tokens=8",
        "--model.validation.num_samples=1",
        *(f"--data.sources.{name}_path={data}/{name}.jsonl" for name in ("train", "val", "pool")),
        f"--data.sources.media_root={data}",
        f"--data.sources.cache_dir={data}/frames",
        "--data.world=null",
        "--data.frames.max_frames=6",
        "--data.loader.batch_size=2",
        "--data.loader.val_batch_size=3",
        "--trainer.max_steps=2",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.val_check_interval=4",
        "--trainer.limit_val_batches=1",
        "--trainer.enable_model_summary=false",
        "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
        f"--trainer.logger.save_dir={out}",
        *(("--model.disc.warmup_max_steps=1",) if method == "rmsd" else ()),
    ]


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("config", CLUSTERS, ids=lambda path: path.stem)
def test_cluster_configs_train(start_processes, mixed, starting_student, tmp_path, config):
    """R-MSD and VISD, a trained tower, text beside videos; two nodes are two torchrun agents."""
    cpu, nodes, precision = on_cpu(config, tmp_path)
    commands = [
        command(method, config, cpu, precision, mixed, starting_student, tmp_path / method)
        for method in ("rmsd", "visd")
    ]
    program = ["tests/smoke/cluster_fit.py", json.dumps(commands)]
    start_processes(program, 2, has_agents=nodes > 1)
    for method in ("rmsd", "visd"):
        (table,) = (tmp_path / method).rglob("metrics.csv")
        rows = list(csv.DictReader(table.open()))
        losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
        assert len(losses) == 2
        assert all(map(math.isfinite, losses))
        assert (tmp_path / method / "student" / "model.safetensors").is_file()
        assert (tmp_path / method / "health.jsonl").read_text() == ""
        card = json.loads((tmp_path / method / "run_card.json").read_text())
        assert (card["outcome"], card["strategy"]["processes"]) == ("finished", 2)
    assert list((tmp_path / "visd" / "credit").glob("*.json"))


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_two_processes_stop_together_where_a_run_collapses(
    start_processes, mixed, starting_student, tmp_path
):
    """Behind the first step of two; were one to go on, it would wait for the other."""
    config = Path("configs/cluster/gpu_8_ddp.yaml")
    cpu, _, precision = on_cpu(config, tmp_path)
    out = tmp_path / "visd"
    health = [
        "--trainer.callbacks+=callbacks.TrainingHealth",
        f"--trainer.callbacks.folder={out}",
        "--trainer.callbacks.window=1",
        "--trainer.callbacks.limits.no_signal=-1.0",
        "--trainer.callbacks.stop=true",
    ]
    keep = ["--trainer.callbacks=lightning.pytorch.callbacks.ModelCheckpoint"]
    keep += [f"--trainer.callbacks.dirpath={out}", "--trainer.callbacks.save_last=true"]
    fit = command("visd", config, cpu, precision, mixed, starting_student, out)
    program = ["tests/smoke/cluster_fit.py", json.dumps([[*fit, *keep, *health]])]
    with pytest.raises(AssertionError, match=r"stopped by TrainingHealth \(.*\) behind step 1"):
        start_processes(program, 2)
    assert (out / "last.ckpt").is_file()
    assert [json.loads(line)["step"] for line in (out / "health.jsonl").open()][0] == 0
