"""Every family goes through every stage; what is exported loads again as what it is."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.families import FAMILIES, MODEL_TYPES

STAGES = {"sft": "stage1", "rmsd": "rmsd", "visd": "visd", "opd": "opd"}
OTHERS = FAMILIES[1:]
"""`test_fit.py` runs every recipe with the first."""
LONG = [pytest.param(*p.values, marks=pytest.mark.matrix) for p in OTHERS]
TOWERS = ("visual.", "vision_tower.", "multi_modal_projector.")
"""In names of weights, as checkpoints have them."""
SAVED = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
    "--trainer.callbacks.save_top_k=-1",
    "--trainer.callbacks.filename={step}",
]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("family", OTHERS)
def test_every_family_fits_two_steps_of_every_stage(small_run, tmp_path, family, stage):
    small = [] if stage == "sft" else ["--model.loss.group_size=2"]
    small += [f"--model.teacher.path=tiny/{family}/4m"] if stage == "opd" else []
    small_run(stage, tmp_path, f"--model.policy.path=tiny/{family}", *small)
    (after,) = [json.loads((tmp_path / "summary.json").read_text())[STAGES[stage]]]
    assert after["step"] == 2
    assert math.isfinite(after["score"])
    exported = AutoModelForImageTextToText.from_pretrained(tmp_path / "student")
    assert exported.config.model_type == MODEL_TYPES[family]
    AutoProcessor.from_pretrained(tmp_path / "student")


@pytest.mark.parametrize("family", OTHERS)
def test_a_frozen_tower_stays_and_all_else_learns(
    small_run, student_of, tmp_path, rewarded_by_text, family
):
    """With activations recomputed, and a teacher that sees another clip than the student."""
    start = student_of(family)
    options = ["--model.loss.group_size=2", "--model.policy.freeze_vision=true"]
    options += ["--model.policy.gradient_checkpointing=true"]
    small_run("visd_clip", tmp_path, *options, f"--model.policy.path={start}")
    before, after = (load_file(f / "model.safetensors") for f in (start, tmp_path / "student"))
    assert before.keys() == after.keys()
    moved = {name for name, weight in before.items() if not torch.equal(after[name], weight)}
    towers = {name for name in before if any(tower in name for tower in TOWERS)}
    assert towers
    assert not moved & towers
    # Norms' steps may be below their rounding, and experts may be needed by no token.
    matrices = {name for name, weight in before.items() if weight.ndim > 1} - towers
    assert len(moved & matrices) > 0.8 * len(matrices)


@pytest.mark.parametrize("stage", ["rmsd", "visd"])
@pytest.mark.parametrize("family", LONG)
def test_a_stopped_run_ends_with_the_same_weights(
    small_run, student_of, tmp_path, rewarded_by_text, family, stage
):
    """Policy, discriminator and EMA teacher, to the bit."""
    options = [f"--model.policy.path={student_of(family)}", "--model.loss.group_size=2"]
    options += ["--trainer.max_steps=4", "--trainer.val_check_interval=4"]
    options += ["--model.disc.warmup_max_steps=1"] if stage == "rmsd" else []
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        saved = [*SAVED, f"--trainer.callbacks.dirpath={folder}/all"]
        goes_on = [f"--ckpt_path={whole}/all/step=2.ckpt"] if folder == resumed else []
        small_run(stage, folder, *options, *saved, *goes_on)
    ends, others = (
        torch.load(folder / "all/step=4.ckpt", weights_only=True)["state_dict"]
        for folder in (whole, resumed)
    )
    assert ends.keys() == others.keys()
    assert [name for name, weight in ends.items() if not torch.equal(others[name], weight)] == []
    start = torch.load(whole / "all/step=2.ckpt", weights_only=True)["state_dict"]
    learning = ["policy.", "discriminator." if stage == "rmsd" else "ema_teacher."]
    if (family, stage) == ("internvl3.5", "rmsd"):
        learning.pop()  # no rollout of this one ends, and such a one is compared with nothing
    for network in learning:
        of_it = [name for name in ends if name.startswith(network)]
        assert any(not torch.equal(ends[name], start[name]) for name in of_it), network
