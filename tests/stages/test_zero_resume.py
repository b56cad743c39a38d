import sys

import pytest

from lit_vdistill.__main__ import main
from lit_vdistill.stages.zero_resume import check_zero_checkpoint


@pytest.fixture
def of_two(tmp_path):
    """A folder with the names that DeepSpeed gives the shards of two processes."""
    folder = tmp_path / "step=2.ckpt"
    (folder / "checkpoint").mkdir(parents=True)
    for rank in (0, 1):
        for kind in ("model", "optim"):
            name = f"zero_pp_rank_{rank}_mp_rank_00_{kind}_states.pt"
            (folder / "checkpoint" / name).touch()
    return folder


def test_as_many_processes_may_resume(of_two, tmp_path):
    check_zero_checkpoint(of_two, 2, {})
    check_zero_checkpoint(None, 4, {})
    check_zero_checkpoint(tmp_path / "file.ckpt", 4, {})


@pytest.mark.parametrize("count", [1, 4])
def test_other_numbers_are_refused_with_both_named(of_two, count):
    with pytest.raises(ValueError, match=f"by DeepSpeed on 2 processes .*; got {count}"):
        check_zero_checkpoint(of_two, count, {})


def test_universal_checkpoints_are_refused(of_two):
    """They lose the networks' present weights without a word."""
    with pytest.raises(ValueError, match="without load_universal"):
        check_zero_checkpoint(of_two, 2, {"checkpoint": {"load_universal": True}})


def test_the_command_refuses_before_deepspeed_does(of_two, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend("tests/smoke")
    monkeypatch.setattr(sys, "argv", ["test"])
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("trainer: {strategy: {class_path: cpu_deepspeed.CPUDeepSpeed}}")
    with pytest.raises(SystemExit):
        main(
            [
                "fit",
                *("--config", "configs/rmsd.yaml", "--config", str(cluster)),
                "--stage1_config=null",
                "--model.policy.path=tiny/qwen3-vl",
                "--trainer.devices=4",
                "--trainer.logger=false",
                f"--run_dir={tmp_path}/run",
                f"--ckpt_path={of_two}",
            ]
        )
    assert "on 2 processes" in capsys.readouterr().err
