"""What a run refuses at its start, and that following the advice helps."""

import csv
import re

import pytest


def test_a_window_that_may_not_fit_names_the_number_of_pieces_that_runs(small_run, tmp_path):
    small = ["--model.loss.group_size=2", "--model.optim.max_tokens=300"]
    with pytest.raises(ValueError, match=r"set trainer\.accumulate_grad_batches") as refused:
        small_run("grpo", tmp_path, *small)
    needed = int(re.search(r"takes (\d+) of them", str(refused.value)).group(1))
    assert needed > 1
    pieces = [
        f"--trainer.accumulate_grad_batches={needed}",
        f"--trainer.val_check_interval={needed}",
        "--trainer.max_steps=1",
    ]
    small_run("grpo", tmp_path, *small, *pieces)
    with pytest.raises(ValueError, match=rf"val_check_interval {needed + 1} .* multiple of"):
        small_run("grpo", tmp_path, *small, *pieces, f"--trainer.val_check_interval={needed + 1}")


TWO = """
model:
  init_args:
    loss: {{group_size: 2}}
    rewards:
      - class_path: lit_vdistill.rewards.Content
        init_args: {{weight: 0.4}}
      - class_path: lit_vdistill.rewards.Content
        init_args: {{weight: 0.2, epsilon: 0.1{name}}}
"""


def test_two_rewards_of_a_class_need_names_of_their_own(small_run, tmp_path):
    path = tmp_path / "rewards.yaml"
    path.write_text(TWO.format(name=""))
    with pytest.raises(ValueError, match="'content' stands there twice; give one of them a `name`"):
        small_run("grpo", tmp_path / "run", f"--config={path}")
    assert not (tmp_path / "run").exists()
    path.write_text(TWO.format(name=", name: near"))
    logger = ["--trainer.logger.class_path=lit_vdistill.tracking.csv_curves.CSVCurves"]
    logger += [f"--trainer.logger.save_dir={tmp_path}", "--trainer.max_steps=1"]
    logger += ["--trainer.val_check_interval=1"]
    small_run("grpo", tmp_path / "run", f"--config={path}", *logger)
    (curves,) = tmp_path.rglob("metrics.csv")
    (row, *_) = (row for row in csv.DictReader(curves.open()) if row["train/loss"])
    assert {"reward/content", "reward/near"} <= set(row)
