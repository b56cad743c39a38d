"""Stop and resume equals an uninterrupted run, to the bit, on CPU."""

import pytest
import torch

STEPS = ["--trainer.max_steps=8", "--trainer.val_check_interval=3", "--data.loader.batch_size=4"]
CHECKPOINTS = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
    "--trainer.callbacks.save_top_k=-1",
    "--trainer.callbacks.filename={step}",
]


def weights(path):
    checkpoint = torch.load(path, weights_only=True)
    return checkpoint["state_dict"], checkpoint["optimizer_states"][0]["state"]


# 18 samples, 4 a batch: 4 batches an epoch. Step 3 is in mid-epoch, behind a validation, and 4 is
# an epoch's end. The discriminator's warm-up ends at step 5.
SMALL = {
    "sft": [],
    "rmsd": ["--model.loss.group_size=2", "--model.disc.warmup_max_steps=5"],
    "visd": ["--model.loss.group_size=2", "--config=configs/curriculum/easy_first.yaml"],
}


@pytest.mark.parametrize("stop", [3, 4, 6])
@pytest.mark.parametrize("config", SMALL)
def test_resume_is_exact(small_run, tmp_path, rewarded_by_text, config, stop):
    extra = SMALL[config]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    saved = [*CHECKPOINTS, f"--trainer.callbacks.dirpath={whole}/all"]
    small_run(config, whole, *STEPS, *extra, *saved)
    checkpoint = f"--ckpt_path={whole}/all/step={stop}.ckpt"
    saved = [*CHECKPOINTS, f"--trainer.callbacks.dirpath={resumed}/all"]
    small_run(config, resumed, *STEPS, *extra, *saved, checkpoint)

    expected, expected_optimizer = weights(whole / "all" / "step=8.ckpt")
    state, optimizer = weights(resumed / "all" / "step=8.ckpt")
    assert state.keys() == expected.keys()
    different = [name for name, tensor in expected.items() if not torch.equal(state[name], tensor)]
    assert different == []
    if config == "visd":
        assert has_moved(state, "policy.lm_head.weight", "ema_teacher.lm_head.weight")
    for index, moments in expected_optimizer.items():
        assert torch.equal(optimizer[index]["exp_avg_sq"], moments["exp_avg_sq"])


def has_moved(state, of_policy, of_teacher):
    """Whether the teacher follows, and is not the student."""
    return not torch.equal(state[of_policy], state[of_teacher])


def test_a_checkpoint_never_overrules_the_command_line(small_run, tmp_path, caplog):
    small_run("sft", tmp_path / "one")
    small_run(
        "sft",
        tmp_path / "two",
        "--trainer.max_steps=3",
        "--model.optim.weight_decay=0.5",
        f"--ckpt_path={tmp_path}/one/checkpoints/last.ckpt",
    )
    assert "weight_decay: 0.5" in (tmp_path / "two" / "config.yaml").read_text()
    assert "resuming with model.init_args.optim.weight_decay: 0.5" in caplog.text
