import logging
import os
import subprocess
import sys
import warnings

import pytest
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from lit_vdistill.cli import quiet

NOISE = (
    "💡 Tip",
    "LeafSpec",
    "anonymous setting",
    "Total FLOPs",
    "accelerator to",
    "TPU available",
    "``compute`` method of metric",
    "Loading weights",
    "Exception ignored",
    "Traceback",
    "skip_none",
)


@pytest.fixture
def hushed(monkeypatch):
    """Libraries hushed for one test, with a handler whose lines are seen."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    speaker = logging.getLogger("lightning.pytorch")
    speaker.addHandler(handler)
    with warnings.catch_warnings():
        quiet.hush()
        yield lines
    speaker.removeHandler(handler)


def test_a_tip_is_left_out_and_all_else_is_heard(hushed):
    rank_zero_info("💡 Tip: try installing [litlogger]")
    rank_zero_info("TPU available: False, using: 0 TPU cores")
    rank_zero_info("GPU available: True (cuda), used: True")
    rank_zero_info("TPU available: True, using: 8 TPU cores")
    assert hushed == [
        "GPU available: True (cuda), used: True", "TPU available: True, using: 8 TPU cores",
    ]  # fmt: skip


def test_deepspeeds_accelerator_is_left_out_and_its_warnings_are_heard(hushed, caplog):
    speaker = logging.getLogger("DeepSpeed")
    speaker.propagate = True
    with caplog.at_level(logging.INFO, "DeepSpeed"):
        speaker.info("Setting ds_accelerator to cpu (auto detect)")
        speaker.warning("Setting accelerator to CPU. If you have GPU or other accelerator, …")
        speaker.warning("overflow")
    # Once or twice: DeepSpeed's own logger may hand it on as well.
    assert set(caplog.messages) == {"overflow"}


def test_warnings_are_left_out_one_by_one(hushed):
    with warnings.catch_warnings(record=True) as heard:
        quiet.hush()
        for what in ("`isinstance(treespec, LeafSpec)`", "another"):
            warnings.warn(f"{what} is deprecated, use …", FutureWarning, stacklevel=1)
    assert [str(entry.message) for entry in heard] == ["another is deprecated, use …"]


def test_wandb_is_not_told_what_it_warns_of(tmp_path):
    logger = WandbLogger(save_dir=str(tmp_path), offline=True)
    quiet.hush_wandb([logger])
    assert "anonymous" not in logger._wandb_init
    assert logger._wandb_init["resume"] == "allow"


@pytest.mark.matrix
@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_run_says_nothing_that_is_of_no_use(world, tmp_path, command):
    args = [
        command, "--config", "configs/rmsd.yaml", f"--run_dir={tmp_path}/run",
        "--stage1_config=null", "--model.policy.path=tiny/qwen3-vl",
        "--model.sampling.max_completion_tokens=6", "--model.validation.num_samples=1",
        f"--data.sources.media_root={world}", f"--data.sources.cache_dir={tmp_path}/frames",
        "--data.loader.batch_size=2", "--data.world=null", "--trainer.max_steps=1",
        "--trainer.val_check_interval=1", "--trainer.limit_val_batches=1",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "lit_vdistill", *args],
        capture_output=True, text=True, check=True, env=os.environ | {"WANDB_MODE": "offline"},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert [noise for noise in NOISE if noise in said] == [], said
    assert "of 4.2 M trained" in said or command == "validate"
