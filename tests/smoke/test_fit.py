import csv
import json
import math

import pytest
import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor

from lit_vdistill.__main__ import main
from lit_vdistill.models.vlm import load_processor
from lit_vdistill.tasks import Task
from lit_vdistill.world.questions import TASKS

RECIPES = (
    "rmsd", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "sft_rl", "gad", "visd", "visd_clip",
    "visd_shuffled", "rlsd", "rmsd_then_visd", "opd", "opsd", "sdpo",
)  # fmt: skip
STAGES = {
    "sft_perception": "perception",
    "sft": "stage1",
    "sft_gad": "stage1_gad",
    "sft_longer": "stage1_longer",
    "sft_privileged": "stage1_privileged",
    **{name: name for name in RECIPES},
}
BEFORE = {"sft_perception": "untrained", "sft": "start", "sft_gad": "start"}


@pytest.mark.parametrize("config", STAGES)
def test_every_stage_and_baseline_fits_two_steps(small_run, tmp_path, config):
    is_supervised = config.startswith("sft") and config != "sft_rl"
    small = [] if is_supervised else ["--model.loss.group_size=2"]
    small += ["--model.teacher.path=tiny/qwen3-vl/4m"] if config == "opd" else []
    small_run(config, tmp_path, *small)
    summary = json.loads((tmp_path / "summary.json").read_text())
    before = BEFORE.get(config, "stage1")
    assert {"seconds", before, STAGES[config], "samples"} <= set(summary)
    assert summary[before]["step"] == 0
    assert summary[STAGES[config]]["step"] == 2
    told = {"score", "mean_at_2", "score/ocr"} | ({"reward"} if config != "gad" else set())
    assert told <= set(summary[STAGES[config]])
    assert (tmp_path / "config.yaml").is_file()
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} >= {"last.ckpt"}
    AutoProcessor.from_pretrained(tmp_path / "student")
    exported = AutoModelForImageTextToText.from_pretrained(tmp_path / "student")
    assert exported.config.model_type == "qwen3_vl"


@pytest.mark.parametrize("cell", ["visd_wrong", "visd_improbable", "rmsd_adaptive"])
def test_controls_that_are_no_recipes_fit_two_steps(small_run, tmp_path, cell):
    small_run(f"../experiments/sweeps/cells/{cell}", tmp_path, "--model.loss.group_size=2")
    assert json.loads((tmp_path / "summary.json").read_text())[cell]["step"] == 2


def test_everything_is_logged(small_run, tmp_path):
    logger = [
        "--trainer.logger.class_path=lit_vdistill.tracking.csv_curves.CSVCurves",
        f"--trainer.logger.save_dir={tmp_path}",
    ]
    small = ["--model.loss.group_size=2", "--model.disc.warmup_max_steps=0"]
    small_run("rmsd", tmp_path, *small, *logger)
    (path,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(path.open()))
    logged = {key for row in rows for key, value in row.items() if value}
    assert logged >= {
        "disc/accuracy",
        "disc/corr_length",
        "disc/corr_quality",
        "disc/margin",
        "disc/reward_share",
        "kl/ref",
        "match/empty_pool",
        "policy/entropy",
        "policy/grad_norm",
        "reward/content",
        "reward/disc",
        "reward/total",
        "rollout/length",
        "rollout/truncated",
        "time/generate_s",
        "val/format_rate",
        "val/mean_at_2",
        "val/reward_part/content",
        "val/score/temporal_grounding",
        "val/tIoU",
    }
    for row in rows:
        row.pop("verify/shared_prefix_gap")  # measured at the first step only
    unknown = {k for row in rows for k, v in row.items() if v and not math.isfinite(float(v))}
    # Six tokens end no response: there is no pair that the discriminator could learn from, and all
    # are of one length.
    nothing = {"accuracy", "corr_length", "margin", "pair_weight", "reward_share", "ties"}
    assert unknown == {f"disc/{name}" for name in nothing}


def test_what_a_step_does_not_measure_is_not_logged_for_it(small_run, tmp_path, rewarded_by_text):
    """VISD's curves; λ is 0 from step 2 on, so that nobody knows of weights there any more."""
    small_run(
        "visd",
        tmp_path,
        "--model.loss.group_size=2",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=4",
        "--trainer.callbacks+=callbacks.LambdaAnnealing",
        "--trainer.callbacks.num_steps=2",
        "--config=configs/curriculum/easy_first.yaml",
        "--trainer.logger.class_path=lit_vdistill.tracking.csv_curves.CSVCurves",
        f"--trainer.logger.save_dir={tmp_path}",
    )
    (path,) = tmp_path.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(path.open()) if row["reward/total"]]
    assert [float(row["credit/lambda"]) for row in rows] == [0.5, 0.25, 0.0, 0.0]
    assert [float(row["judge/rollouts"]) > 0 for row in rows] == [True, True, False, False]
    known = ("credit/weight_better", "credit/weight_worse", "judge/failures")
    for row, is_known in zip(rows, (True, True, False, False), strict=True):
        assert all(math.isfinite(float(row[name])) == is_known for name in known)
        parts = ("answer_time", "answer_box", "think_segment", "think_point", "think_space")
        assert all(math.isfinite(float(row[n])) for n in ("policy/grad_norm", "policy/entropy"))
        assert all(f"reward/{name}" in row for name in parts)  # of the tasks that they are about
        assert sum(float(row[f"curriculum/{task}"]) for task in Task) == pytest.approx(1.0)
    assert [math.isfinite(float(row["verify/shared_prefix_gap"])) for row in rows] == [
        True, False, False, False,
    ]  # fmt: skip


def test_the_last_steps_weights_are_validated_before_they_are_exported(small_run, tmp_path):
    """The paper config's shape: 469 steps in pieces, validated every 100."""
    pieces = ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=4"]
    small = ["--model.loss.group_size=2", "--trainer.max_steps=3"]
    small_run("rmsd", tmp_path, *small, *pieces)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rmsd"]["step"] == 3
    card = (tmp_path / "student/README.md").read_text()
    # As the card writes them.
    assert f"{summary['rmsd']['score']:.4g}" in card
    assert f"{summary['rmsd']['facts_missing']:.4g}" in card


def test_wandb_runs_offline_with_a_table_of_rollouts(small_run, tmp_path):
    logger = [
        "--trainer.logger.class_path=lightning.pytorch.loggers.WandbLogger",
        f"--trainer.logger.save_dir={tmp_path}",
        "--trainer.logger.offline=true",
    ]
    small_run("rmsd", tmp_path, "--model.loss.group_size=2", *logger)
    (table,) = tmp_path.rglob("*.table.json")
    columns = json.loads(table.read_text())["columns"]
    rewards = {f"reward/{name}" for name in ("content", "disc", "total")}
    assert {"question", "response", "matched_teacher", "advantage", *rewards} <= set(columns)
    rows = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").open()]
    assert len(rows) == 3 * 2
    assert {"frames", *rows[0]} == set(columns)


def test_a_run_ends_with_scores_and_says_what_it_does_not_compare(small_run, tmp_path, caplog):
    """Fewer steps than between two validations, and a first validation of one batch of two."""
    less = ["--trainer.val_check_interval=50", "--trainer.num_sanity_val_steps=1"]
    small_run("sft_perception", tmp_path, *less)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "untrained" not in summary.keys() | summary["samples"].keys()
    assert summary["perception"]["step"] == 2
    assert {"score": 9, "score/ocr": 1, "reward": 9}.items() <= summary["samples"][
        "perception"
    ].items()
    assert "no scores of 'untrained', which was not validated on all 9 samples" in caplog.text


@pytest.mark.parametrize(("command", "split"), [("validate", "val"), ("test", "test")])
def test_scoring_commands_print_a_table_and_write_what_is_behind_it(
    small_run, tmp_path, capsys, command, split
):
    small_run("rmsd", tmp_path, command=command)
    printed = capsys.readouterr().out
    assert f"{split}/score" not in printed
    rows = [json.loads(line) for line in (tmp_path / f"{command}.jsonl").open()]
    assert [row["id"] for row in rows] == [f"{split}00000-{task}" for task in TASKS]
    for row in rows:
        assert row["question"]
        assert row["truth"]["answer"]
        assert len(row["frame_times_s"]) == 8
        assert len(row["sampled"]) == 2
        assert {"score", "mean_at_2", "reward"} <= row["scores"].keys()
    found = json.loads((tmp_path / f"{command}.json").read_text())
    assert found["student"] == "tiny/qwen3-vl"
    assert found["records"].endswith(f"world/{split}.jsonl")
    assert found["samples"]["score"] == found["levels"]["easy"]["samples"] == len(rows) == 9
    mean = sum(row["scores"]["reward"] for row in rows) / len(rows)
    assert found["scores"]["reward"] == pytest.approx(mean)
    table = [line.replace("│", " ").split() for line in printed.splitlines()]
    assert ["overall", "9", "0.000", "0.000", f"{mean:.3f}"] in table
    assert ["easy", "9", "0.000", "0.000", f"{mean:.3f}"] in table
    assert sorted(path.name for path in tmp_path.glob(f"{command}.*")) == [
        f"{command}.json", f"{command}.jsonl", f"{command}.yaml",
    ]  # fmt: skip


def test_a_saved_config_is_complete(small_run, tmp_path, capsys):
    quiet = "--trainer.enable_progress_bar=false"
    student = ("--config", "configs/models/tiny_qwen3.5.yaml")
    small_run("grpo", tmp_path, "--model.loss.group_size=2", "--overwrite", quiet, *student)
    written = (tmp_path / "config.yaml").read_bytes()
    main(["validate", "--config", str(tmp_path / "config.yaml")])
    assert (tmp_path / "config.yaml").read_bytes() == written  # `fit` knows no `verbose`
    assert "verbose" in yaml.safe_load((tmp_path / "validate.yaml").read_text())
    assert "overall" in capsys.readouterr().out
    assert json.loads((tmp_path / "validate.json").read_text())["samples"]["score"] == 9
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (saved["base"], saved["student"], saved["overwrite"]) == (None, None, False)
    assert saved["name"] == "grpo_tiny_qwen3.5"


def test_a_used_folder_is_refused_in_one_line(small_run, tmp_path, capsys):
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(SystemExit) as caught:
        small_run("grpo", tmp_path)
    assert caught.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"run_dir {tmp_path} holds a run" in said
    assert "--overwrite" in said


def test_a_remote_checkpoint_is_refused(small_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        small_run("grpo", tmp_path, "--ckpt_path=https://example.org/last.ckpt")
    assert "expected a file on this machine" in capsys.readouterr().err


def test_predict_writes_an_answer_to_every_held_out_prompt(small_run, tmp_path):
    small_run("rmsd", tmp_path, command="predict")
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").open()]
    assert [row["id"] for row in rows] == [f"val00000-{task}" for task in TASKS]
    assert not (tmp_path / "predictions.json").exists()
    end = load_processor("tiny/qwen3-vl").tokenizer.eos_token_id
    for row in rows:
        assert len(row["completion_ids"]) == 6 or row["completion_ids"][-1] == end
