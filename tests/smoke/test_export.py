"""A checkpoint of any kind becomes the student that the run itself would have left."""

import pytest
import torch
from safetensors.torch import load_file

from lit_vdistill.__main__ import main


def weights(folder):
    return load_file(folder / "model.safetensors")


def export(ckpt, folder):
    main(["export", "--ckpt", str(ckpt), "--folder", str(folder)])
    return weights(folder)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_a_checkpoint_of_one_file(small_run, tmp_path, capsys):
    """The last step's is what `ExportStudent` wrote; an earlier one is another student."""
    small_run(
        "sft",
        tmp_path / "run",
        "--trainer.val_check_interval=1",
        "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={tmp_path}/run/steps",
        "--trainer.callbacks.filename={step}",
        "--trainer.callbacks.every_n_train_steps=1",
        "--trainer.callbacks.save_top_k=-1",
    )
    ended, steps = weights(tmp_path / "run" / "student"), tmp_path / "run" / "steps"
    assert_equal(export(steps / "step=2.ckpt", tmp_path / "two"), ended)
    first = export(steps / "step=1.ckpt", tmp_path / "one")
    assert any(not torch.equal(first[name], ended[name]) for name in ended)
    card = (tmp_path / "one" / "README.md").read_text()
    assert "1 optimizer steps" in card
    assert "SFTModule. SFT warm-up" in card
    assert "train.jsonl" in card
    capsys.readouterr()
    for ckpt, folder, message in (
        (steps / "step=9.ckpt", "x", "step=9.ckpt does not exist"),
        (steps / "step=1.ckpt", "one", "one exists; name another, or remove it"),
        (steps, "x", "is a folder of neither FSDP2"),
    ):
        with pytest.raises(SystemExit):
            export(ckpt, tmp_path / folder)
        assert message in capsys.readouterr().err
        assert not (tmp_path / "x").exists()
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(SystemExit):
        export(tmp_path / "foreign.ckpt", tmp_path / "x")
    assert "foreign.ckpt was not written by a run of `fit`" in capsys.readouterr().err


@pytest.mark.matrix
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", "fsdp2-file", "1", "2", "3"])
def test_a_checkpoint_of_two_processes(fit_together, tmp_path, strategy, precision):
    """VISD has networks beside the student: a teacher, of which nothing may be left in it."""
    out = tmp_path / "out"
    case = {
        "method": "visd", "strategy": strategy, "precision": precision, "optimizer": "adamw",
        "num_steps": 2, "out": str(out), "save_to": str(tmp_path / "saved"),
    }  # fmt: skip
    fit_together([case], 2)
    assert_equal(export(tmp_path / "saved" / "step=2.ckpt", tmp_path / "student"), weights(out))
