import json

import numpy as np
import pytest

from experiments import curves, seeds


def report(value):
    return {"score": value, "mean_at_8": value / 2, "reward": value + 0.1}


RESULTS = {
    "0": {"stage1": report(0.2), "visd": report(0.3), "grpo": report(0.1)},
    "1": {"stage1": report(0.4), "visd": report(0.6), "grpo": report(0.4)},
}


def test_the_table_holds_mean_spread_and_every_seed():
    lines = seeds.table(RESULTS, ["visd", "grpo"]).splitlines()
    assert "| stage1 | 0.300 ± 0.141 | 0.150 ± 0.071 | 0.400 ± 0.141 |" in lines
    assert "| stage1 to visd, by seed | +0.100 +0.200 | +0.050 +0.100 | +0.100 +0.200 |" in lines
    assert "| stage1 to grpo, by seed | -0.100 +0.000 | -0.050 +0.000 | -0.100 +0.000 |" in lines


def test_variants_start_from_the_same_student_and_complete_runs_stand(tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        config, home = command[5], command[9]
        commands.append(command[5:])
        name = command[command.index("--name") + 1] if "--name" in command else "stage1"
        before = "untrained" if config == "sft.yaml" else "stage1"
        seeds.Path(home).mkdir(parents=True)
        found = {"seconds": 7.0, before: report(0.1), name: report(0.5)}
        seeds.Path(home, "summary.json").write_text(json.dumps(found))

    monkeypatch.setattr(seeds.subprocess, "run", run)
    variants = {"visd": [], "grpo": ["--model.credit.mix", "0"]}
    found = seeds.run_seed(["sft.yaml"], "visd.yaml", variants, 3, tmp_path)
    assert list(found) == ["untrained", "stage1", "visd", "grpo"]
    assert found["stage1"] == report(0.5) | {"seconds": 7.0}
    student = str(tmp_path / "seed3" / "sft" / "student")
    assert "--model.policy.path" not in commands[0]
    assert [command[-2:] for command in commands[1:]] == [["--model.policy.path", student]] * 2
    assert "--model.credit.mix" in commands[2]
    assert all(command[1:3] == ["--seed_everything", "3"] for command in commands)
    assert seeds.run_seed(["sft.yaml"], "visd.yaml", variants, 3, tmp_path) == found
    assert len(commands) == 3


def test_curves_average_the_steps_before():
    assert curves.smoothed(np.array([1.0, 3.0, 5.0, 1.0]), 2).tolist() == [1.0, 2.0, 4.0, 3.0]


def test_curves_are_drawn_where_they_are_logged(tmp_path):
    for seed in (0, 1):
        home = tmp_path / f"seed{seed}" / "grpo" / "csv"
        home.mkdir(parents=True)
        home.joinpath("metrics.csv").write_text(
            "step,reward/total,val/score\n0,0.5,\n1,0.7,\n1,,0.2\n"
        )
    steps, values = curves.read_curve(home / "metrics.csv", "reward/total")
    assert (steps.tolist(), values.tolist()) == ([0.0, 1.0], [0.5, 0.7])
    curves.draw(tmp_path, ["grpo"], 2, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    with pytest.raises(FileNotFoundError, match="seed"):
        curves.draw(tmp_path, ["visd"], 2, tmp_path / "curves.png")
