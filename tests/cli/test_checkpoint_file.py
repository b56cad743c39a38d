import multiprocessing
import os
import signal
import time

import pytest
import torch

from lit_vdistill.cli.checkpoint_file import CheckpointError, WholeFileIO


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeFileIO().save_checkpoint({"weights": torch.arange(1000.0), "step": 3}, path)
    return path


def test_what_is_saved_is_loaded_and_nothing_else_lies_there(path):
    found = WholeFileIO().load_checkpoint(path)
    assert torch.equal(found["weights"], torch.arange(1000.0))
    assert found["step"] == 3
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_fills_leaves_the_last_good_one(path, monkeypatch):
    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        WholeFileIO().save_checkpoint({"step": 4}, path)
    monkeypatch.undo()
    assert WholeFileIO().load_checkpoint(path)["step"] == 3
    assert list(path.parent.iterdir()) == [path]


def cut(raw):
    return raw[: len(raw) // 2]


def flip(raw):
    start, end = len(raw) // 2, len(raw) // 2 + 64
    return raw[:start] + bytes(255 - byte for byte in raw[start:end]) + raw[end:]


@pytest.mark.parametrize("damage", [cut, flip, lambda raw: b"", lambda raw: raw[:-1]])
def test_a_damaged_file_is_refused_in_one_line(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"ckpt_path .*last\.ckpt is .*go on from") as caught:
        WholeFileIO().load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        WholeFileIO().load_checkpoint(tmp_path / "none.ckpt")


def save_for_ever(path):
    step = 0
    while True:
        step += 1
        WholeFileIO().save_checkpoint({"weights": b"1" * 2_000_000, "step": step}, path)


@pytest.mark.parametrize("wait_s", [0.02, 0.031, 0.047])
def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(path, wait_s):
    # Not a copy of this process, which earlier tests have made large.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lit_vdistill.cli.checkpoint_file"])
    process = context.Process(target=save_for_ever, args=(path,))
    process.start()
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:
        time.sleep(0.001)
    time.sleep(wait_s)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = WholeFileIO().load_checkpoint(path)
    assert found["step"] >= 1
    assert set(found["weights"]) == {ord("1")}
