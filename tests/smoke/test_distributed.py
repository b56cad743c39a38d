"""Two processes on CPU: mixed media on any sharding, and the same numbers under every strategy."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from lit_vdistill.readers.records import read_records, write_records


def run(*args):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, args)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def weights(folder):
    """As a user loads them."""
    return AutoModelForImageTextToText.from_pretrained(folder).state_dict()


@pytest.fixture
def mixed(world, tmp_path):
    """Records of which two thirds have no video; one process may get none in a batch."""
    samples, _ = read_records(world / "train.jsonl")
    samples = [
        sample if i % 3 == 0 else replace(sample, media=None, media_type="text")
        for i, sample in enumerate(samples[:12])
    ]
    write_records(tmp_path / "train.jsonl", samples)
    return tmp_path / "train.jsonl"


@pytest.mark.slow
def test_text_and_video_mix_on_two_processes(world, mixed, tmp_path):
    run(
        *("-m", "lit_vdistill", "fit", "--config", "configs/rmsd.yaml"),
        f"--run_dir={tmp_path}",
        "--stage1_config=null",
        "--model.policy.path=tiny/qwen3-vl",
        "--model.sampling.max_completion_tokens=6",
        "--model.validation.num_samples=2",
        "--model.loss.group_size=2",
        f"--data.sources.train_path={mixed}",
        f"--data.sources.val_path={world}/val.jsonl",
        f"--data.sources.pool_path={world}/pool.jsonl",
        f"--data.sources.media_root={world}",
        f"--data.sources.cache_dir={tmp_path}/frames",
        "--data.world=null",
        "--data.loader.batch_size=1",
        "--trainer.max_steps=5",
        "--trainer.val_check_interval=5",
        "--trainer.logger=false",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rmsd"]["step"] == 5
    assert (tmp_path / "student" / "model.safetensors").is_file()


@pytest.fixture
def starting_student(tmp_path, families):
    """A student on disk whose rollouts end at different places, as rewards need."""
    model, processor = deepcopy(families["qwen3-vl"])
    with torch.no_grad():
        # A large logit, up or down.
        model.get_input_embeddings().weight[processor.tokenizer.eos_token_id] *= 40
    model.save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")
    return tmp_path / "start"


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("method", ["rmsd", "visd"])
def test_zero_3_trains_as_ddp_does(world, tmp_path, starting_student, method):
    """Four steps, two batches each, clipped: generation, reference, discriminator, EMA teacher.

    Lightning and DeepSpeed both divide by the accumulation; clipping would show it.
    """
    start = weights(starting_student)
    trained = {}
    for strategy in ("ddp", "3"):
        out = tmp_path / strategy
        run("tests/smoke/sharded_fit.py", method, strategy, world, starting_student, out)
        trained[strategy] = weights(out)
    moved = max((trained["ddp"][name] - start[name]).abs().max() for name in start)
    assert moved > 1e-3
    apart = max((trained["ddp"][n] - trained["3"][n]).abs().max() for n in start)
    assert apart < 0.02 * moved


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_zero_3_resumes_with_the_shards_of_a_bf16_teacher(world, tmp_path, starting_student):
    """Steps 3 and 4 follow from the teacher's float32 shards, which each process keeps."""
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for out in (whole, resumed):
        fixed = ("tests/smoke/sharded_fit.py", "visd", "3", world, starting_student)
        run(*fixed, out, "bf16-true", tmp_path / "checkpoints")
    students = [weights(folder) for folder in (whole, resumed)]
    assert all(torch.equal(students[0][name], students[1][name]) for name in students[0])
    for rank in (0, 1):
        shards = [torch.load(f"{folder}.teacher{rank}.pt") for folder in (whole, resumed)]
        assert {shard.dtype for shard in shards[0].values()} == {torch.float32}
        assert all(torch.equal(shards[0][name], shards[1][name]) for name in shards[0])
