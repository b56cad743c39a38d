"""VISD whose judge is served by a server that dies: training goes on, and counts it."""

import csv

import yaml

from tests.served.misbehaving_server import Server, cuts, says

GOOD = says('{"feedback": "The answer is wrong."}')
STEPS = 4


def test_training_goes_on_where_the_judges_server_dies(small_run, tmp_path, rewarded_by_text):
    """The first step's rollouts are judged, those of later ones are not."""
    file = tmp_path / "judge.yaml"
    with Server(*[GOOD] * 6, cuts) as server:
        judge = {
            "class_path": "lit_vdistill.judge.served_judge.OpenAIJudge",
            "init_args": {
                "endpoint": {
                    "base_url": server.url, "model": "m", "attempt_s": 1.0, "deadline_s": 1.0,
                },
                "replies": {"budget_s": 2.0},
            },
        }  # fmt: skip
        file.write_text(yaml.safe_dump({"model": {"init_args": {"judge": judge}}}))
        small_run(
            "visd",
            tmp_path / "run",
            *("--config", str(file)),
            "--model.loss.group_size=2",
            f"--trainer.max_steps={STEPS}",
            f"--trainer.val_check_interval={STEPS}",
            "--trainer.logger=lit_vdistill.tracking.csv_curves.CSVCurves",
            f"--trainer.logger.save_dir={tmp_path}/run",
        )
    files = list((tmp_path / "run").rglob("metrics.csv"))
    with files[0].open() as table:
        rows = [row for row in csv.DictReader(table) if row.get("judge/failures")]
    failures = [float(row["judge/failures"]) for row in rows]
    assert failures[0] == 0.0
    assert failures[-1] == 1.0
    assert len(failures) == STEPS
