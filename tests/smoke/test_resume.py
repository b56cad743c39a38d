"""Stop and resume equals an uninterrupted run, to the bit, on CPU."""

import csv

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


@pytest.fixture(scope="session")
def whole_run(small_run, tmp_path_factory):
    """The folder of a recipe's uninterrupted run, made when it is first asked for."""
    done = {}

    def folder_of(config):
        if config not in done:
            folder = tmp_path_factory.mktemp(f"{config}-whole")
            saved = [*CHECKPOINTS, f"--trainer.callbacks.dirpath={folder}/all"]
            small_run(config, folder, *STEPS, *SMALL[config], *saved, "--overwrite")
            done[config] = folder
        return done[config]

    return folder_of


QUICK = (("sft", 4), ("rmsd", 3), ("visd", 6))
STOPS = [(config, stop) for config in SMALL for stop in (3, 4, 6)]


@pytest.mark.parametrize(
    ("config", "stop"),
    [pytest.param(*s, marks=[] if s in QUICK else [pytest.mark.matrix]) for s in STOPS],
)
def test_resume_is_exact(small_run, whole_run, tmp_path, rewarded_by_text, config, stop):
    extra = SMALL[config]
    whole, resumed = whole_run(config), tmp_path / "resumed"
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


# Six steps, stopped behind the third: between the two updates of the second window (whose policy
# has moved in the first: the warm-up takes one window), or with two pieces behind each step.
LAMBDA = ["--trainer.callbacks+=callbacks.LambdaAnnealing", "--trainer.callbacks.num_steps=2"]
TWICE = ["--model.loss.updates_per_rollout=2"]
PIECES = ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=4"]
RESAMPLED = ["--model.loss.group_size=2", "--model.loss.resample_no_signal=1"]
WARM = "--model.disc.warmup_max_steps=2"
WITHIN = {
    "rmsd-updates": ("rmsd", [*SMALL["rmsd"], WARM, *TWICE]),
    "visd-updates": ("visd", [*SMALL["visd"], *TWICE]),
    "visd-updates-lambda0": ("visd", [*SMALL["visd"], *TWICE, *LAMBDA]),
    "sft-pieces": ("sft", PIECES),
    "rmsd-pieces": ("rmsd", [*SMALL["rmsd"], WARM, *PIECES]),
    "visd-pieces": ("visd", [*SMALL["visd"], *PIECES]),
    "grpo-resampled": ("grpo", RESAMPLED),
    "opd-pieces": ("opd", ["--model.teacher.path=tiny/qwen3-vl/4m", RESAMPLED[0], *PIECES]),
    "rmsd-all": ("rmsd", [*RESAMPLED, WARM, *TWICE, *PIECES]),
}
WITHIN_QUICK = ("sft-pieces", "rmsd-updates", "grpo-resampled")


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[] if c in WITHIN_QUICK else [pytest.mark.matrix]) for c in WITHIN],
)
def test_resume_within_a_window_is_exact(small_run, tmp_path, rewarded_by_text, case):
    config, extra = WITHIN[case]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    six = ["--trainer.max_steps=6", "--trainer.val_check_interval=2", "--data.loader.batch_size=4"]
    curve = ["--trainer.logger.class_path=lit_vdistill.tracking.csv_curves.CSVCurves"]
    curve += ["--trainer.log_every_n_steps=1"]
    for folder, more in ((whole, []), (resumed, [f"--ckpt_path={whole}/all/step=3.ckpt"])):
        saved = [*CHECKPOINTS, f"--trainer.callbacks.dirpath={folder}/all"]
        logger = [*curve, f"--trainer.logger.save_dir={folder}"]
        small_run(config, folder, *six, *extra, *logger, *saved, *more)
    start, _ = weights(whole / "all" / "step=3.ckpt")
    expected, expected_optimizer = weights(whole / "all" / "step=6.ckpt")
    state, optimizer = weights(resumed / "all" / "step=6.ckpt")
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []
    assert not torch.equal(start["policy.lm_head.weight"], state["policy.lm_head.weight"])
    for index, moments in expected_optimizer.items():
        assert torch.equal(optimizer[index]["exp_avg_sq"], moments["exp_avg_sq"])
    known, found = curves(whole), curves(resumed)
    assert [row["step"] for row in found] == ["3", "4", "5"]
    for row, other in zip(known[3:], found, strict=True):
        assert of_the_step(row) == of_the_step(other)
    if "resampled" in case:
        assert any(float(row["rollout/resampled"]) > 0 for row in known)


def curves(folder):
    """What was logged of each step."""
    (path,) = folder.rglob("metrics.csv")
    return [row for row in csv.DictReader(path.open()) if row["train/loss"]]


def of_the_step(row):
    """What says something about what was learnt, and not how long it took or for the first time."""
    others = ("time/", "perf/", "epoch", "verify/", "shared/")
    known = {name: value for name, value in row.items() if value not in ("", "nan")}
    return {name: value for name, value in known.items() if not name.startswith(others)}


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
