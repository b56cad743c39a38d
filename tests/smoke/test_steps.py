"""What a run refuses at its start, that following the advice helps, and that no recipe needs it."""

import csv
import re
from pathlib import Path

import pytest

from lit_vdistill.__main__ import main
from lit_vdistill.stages.loop import StepLoop


class Reached(Exception):
    """A run has passed all that is checked before its first step."""


@pytest.mark.parametrize("recipe", [path.stem for path in sorted(Path("configs").glob("*.yaml"))])
def test_every_recipe_reaches_its_first_step_as_shipped(recipe, world, tmp_path, monkeypatch):
    """With its own batch, rollouts and bounds, which other tests make small."""

    def reach(self, *args):
        raise Reached

    monkeypatch.setattr(StepLoop, "training_step", reach)
    teacher = ["--model.teacher.path=tiny/qwen3-vl/4m"] if recipe == "opd" else []
    run = [
        *("fit", "--config", f"configs/{recipe}.yaml", "--run_dir", str(tmp_path)),
        "--stage1_config=null",
        "--model.policy.path=tiny/qwen3-vl",
        *teacher,
        "--data.world=null",
        f"--data.sources.media_root={world}",
        f"--data.sources.cache_dir={tmp_path}",
        "--trainer.num_sanity_val_steps=0",
        "--trainer.val_check_interval=1",
        "--trainer.logger=false",
    ]
    with pytest.raises(Reached):
        main(run)


def test_a_window_that_may_not_fit_names_the_number_of_pieces_that_runs(
    small_run, tmp_path, capsys
):
    small = ["--model.loss.group_size=2", "--model.optim.max_tokens=300"]
    with pytest.raises(SystemExit):
        small_run("grpo", tmp_path, *small)
    told = re.search(
        r"takes (\d+) of them: set trainer\.accumulate_grad_batches", capsys.readouterr().err
    )
    needed = int(told.group(1))
    assert needed > 1
    pieces = [
        f"--trainer.accumulate_grad_batches={needed}",
        f"--trainer.val_check_interval={needed}",
        "--trainer.max_steps=1",
    ]
    small_run("grpo", tmp_path, *small, *pieces)
    more = ["--overwrite", f"--trainer.val_check_interval={needed + 1}"]
    with pytest.raises(SystemExit):
        small_run("grpo", tmp_path, *small, *pieces, *more)
    assert re.search(rf"val_check_interval {needed + 1} .* multiple of", capsys.readouterr().err)


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


def test_two_rewards_of_a_class_need_names_of_their_own(small_run, tmp_path, capsys):
    path = tmp_path / "rewards.yaml"
    path.write_text(TWO.format(name=""))
    with pytest.raises(SystemExit):
        small_run("grpo", tmp_path / "run", f"--config={path}")
    assert "'content' stands there twice; give one of them a `name`" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    path.write_text(TWO.format(name=", name: near"))
    logger = ["--trainer.logger.class_path=lit_vdistill.tracking.csv_curves.CSVCurves"]
    logger += [f"--trainer.logger.save_dir={tmp_path}", "--trainer.max_steps=1"]
    logger += ["--trainer.val_check_interval=1"]
    small_run("grpo", tmp_path / "run", f"--config={path}", *logger)
    (curves,) = tmp_path.rglob("metrics.csv")
    (row, *_) = (row for row in csv.DictReader(curves.open()) if row["train/loss"])
    assert {"reward/content", "reward/near"} <= set(row)
