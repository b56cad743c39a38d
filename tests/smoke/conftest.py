"""Whole runs of the command on a two-video world."""

import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial

import pytest

_KINDS = ("text", "video", "text", "image")


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Runs a training command in this process with everything made small."""
    from lit_vdistill.__main__ import main

    shared = tmp_path_factory.mktemp("shared")

    def run(config, run_dir, *overrides, command="fit"):
        main(
            [
                command,
                *("--config", f"configs/{config}.yaml"),
                *("--run_dir", str(run_dir)),
                "--stage1_config=null",
                "--model.policy.path=tiny/qwen3-vl",
                "--model.sampling.max_completion_tokens=6",
                "--model.validation.num_samples=2",
                f"--data.sources.media_root={shared / 'world'}",
                f"--data.sources.cache_dir={shared / 'frames'}",
                "--data.loader.batch_size=3",
                "--data.loader.val_batch_size=5",
                "--data.loader.num_workers=0",
                "--data.loader.memory_gib=0.25",
                "--data.world.train_videos=2",
                "--data.world.val_videos=1",
                "--data.world.test_videos=1",
                "--trainer.max_steps=2",
                "--trainer.val_check_interval=2",
                "--trainer.logger=false",
                "--trainer.enable_model_summary=false",
                *overrides,
            ]
        )
        import wandb

        # A run left open would take over the next test's.
        wandb.finish()

    return run


@pytest.fixture
def rewarded_by_text(monkeypatch, pay_by_text):
    """An untrained student earns nothing: rewards by its text give groups a signal all the same."""
    pay_by_text(monkeypatch)


@pytest.fixture(scope="session")
def pay_by_text():
    """Does so for as long as a patch lasts."""
    from lit_vdistill.stages import on_policy

    def by_text(rewards, response, sample):
        return {reward.name: sum(map(ord, response.text)) % 7 / 7 for reward in rewards}

    return lambda patch: patch.setattr(on_policy, "reward_breakdown", by_text)


@pytest.fixture(scope="session")
def start_processes():
    """Runs a program in processes that know of each other; stops all where one fails."""
    return _start_processes


def _start_processes(command, count, *, has_agents=False):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    known = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."}
    agent = ["-m", "torch.distributed.run", "--nproc_per_node=1", f"--nnodes={count}"]
    agent += ["--master_addr=127.0.0.1", f"--master_port={port}"]
    if not has_agents and count > 1:
        known |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    running = [
        subprocess.Popen(
            [
                sys.executable,
                *([*agent, f"--node_rank={rank}"] if has_agents else []),
                *map(str, command),
            ],
            env=known | ({"LOCAL_RANK": str(rank)} if count > 1 and not has_agents else {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    with ThreadPoolExecutor(count) as pool:
        told = list(pool.map(partial(_wait, others=running), running))
    failed = [told[i][-3000:] for i, process in enumerate(running) if process.returncode]
    assert not failed, "\n---\n".join(failed)


def _wait(process, others):
    """What it wrote to stderr; where it fails, others would wait for it."""
    try:
        return process.communicate(timeout=600)[1]
    finally:
        if process.returncode != 0:
            for other in others:
                other.kill()


@pytest.fixture(scope="session")
def mixed(world, tmp_path_factory):
    """Twelve records in which two processes see text only beside video and image.

    Windows of four take them in turn: the first process of two has the even places. Groups of the
    first place of each window, and one more, pay nothing.
    """
    import torch
    from PIL import Image

    from lit_vdistill.media.video import FrameConfig, MediaReader
    from lit_vdistill.readers.records import read_records, write_records
    from lit_vdistill.tasks import Task
    from lit_vdistill.world.scenes import SECONDS, write_video

    root = tmp_path_factory.mktemp("mixed")
    shutil.copytree(world, root, dirs_exist_ok=True)
    samples, _ = read_records(world / "train.jsonl")
    samples = samples[:: len(samples) // 12][:12]
    reader = MediaReader(world, FrameConfig(), factor=1, cache_dir=None)
    generator = torch.Generator().manual_seed(0)
    for place, index in enumerate(torch.randperm(12, generator=generator).tolist()):
        kind, sample = _KINDS[place % 4], samples[index]
        task = Task.OPEN_ENDED if sample.task.needs_medium else sample.task
        changes = {"media": None, "media_type": "text", "task": task}
        frames = reader.read(sample.media, "video").frames.repeat(2, axis=0)
        if kind == "video":
            # As long as the world's, whose evidence it carries; each of another frame rate.
            count = 3 + place
            write_video(root / f"{place}.mp4", frames[:count], fps=Fraction(count, SECONDS))
            changes = {"media": f"{place}.mp4"}
        if kind == "image":
            Image.fromarray(frames[place]).save(root / f"{place}.png")
            changes = {"media": f"{place}.png", "media_type": "image"}
        idle = {"idle": 1} if place % 4 == 0 or place == 2 else {}
        samples[index] = replace(sample, meta=idle, **changes)
    write_records(root / "train.jsonl", samples)
    return root


@pytest.fixture(scope="session")
def student_of(tmp_path_factory, families):
    """Students on disk, by family, whose rollouts end at different places, as rewards need."""
    import torch

    from lit_vdistill.models.weights import checkpoint_weights

    @cache
    def build(family):
        folder = tmp_path_factory.mktemp("start")
        model, processor = deepcopy(families[family])
        with torch.no_grad():
            # A large logit, up or down.
            model.get_input_embeddings().weight[processor.tokenizer.eos_token_id] *= 20
        # As an export is written, whose weights are compared with these.
        weights = checkpoint_weights(model)
        model.save_pretrained(folder, state_dict=weights, save_original_format=False)
        processor.save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def starting_student(student_of):
    """The one that most tests begin with."""
    return student_of("qwen3-vl")


@pytest.fixture(scope="session")
def larger_teacher(tmp_path_factory):
    """A network of another size on disk: every process and strategy reads the same weights."""
    import torch

    from lit_vdistill.models.tiny import build_tiny_model, build_tiny_processor

    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(1)
    build_tiny_model("qwen3-vl/4m").save_pretrained(folder)
    build_tiny_processor("qwen3-vl").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def fit_together(start_processes, mixed, starting_student, larger_teacher):
    """Runs cases of `sharded_fit.py` one after another on some processes."""

    def fit(cases, count=1, student=starting_student):
        listed = json.dumps([{"num_processes": count, **case} for case in cases])
        command = ("tests/smoke/sharded_fit.py", mixed, student, larger_teacher, listed)
        start_processes(command, count)

    return fit
