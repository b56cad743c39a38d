"""A run with unreadable media: it goes on, says so, and resumes to the bit."""

import json
import shutil

import torch

CHECKPOINTS = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
    "--trainer.callbacks.save_top_k=-1",
    "--trainer.callbacks.filename={step}",
]


def test_one_sample_a_step_and_every_second_medium_broken(small_run, world, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(world, root)
    for name in ("train00000", "train00002", "val00000"):
        (root / f"videos/{name}.mp4").write_bytes(b"broken")
    (root / "val.jsonl").write_bytes(
        (root / "val.jsonl").read_bytes() + (root / "test.jsonl").read_bytes()
    )
    small = [f"--data.sources.media_root={root}", "--data.world=null"]
    small += ["--data.loader.batch_size=1", "--data.sources.max_bad_fraction=0.5"]
    small += ["--trainer.max_steps=6", "--trainer.val_check_interval=6"]
    small += ["--model.validation.num_samples=0", "--trainer.num_sanity_val_steps=0"]
    for folder, more in (("whole", []), ("resumed", [f"--ckpt_path={tmp_path}/whole/step=3.ckpt"])):
        saved = [*CHECKPOINTS, f"--trainer.callbacks.dirpath={tmp_path / folder}"]
        small_run("sft", tmp_path / f"run-{folder}", *small, *saved, *more)
    whole, resumed = (
        torch.load(tmp_path / folder / "step=6.ckpt", weights_only=True)
        for folder in ("whole", "resumed")
    )
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    name = "VideoDistillDataModule"
    assert whole[name]["left_out"] == resumed[name]["left_out"] != []
    summaries = [
        json.loads((tmp_path / f"run-{folder}/summary.json").read_text())["left_out"]
        for folder in ("whole", "resumed")
    ]
    assert summaries[0] == summaries[1]
    assert len(summaries[0]["training"]) == len(whole[name]["left_out"])
    assert len(summaries[0]["validation"]) == 9
    assert all("videos/train0000" in reason for reason in summaries[0]["training"])
