import json

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


@pytest.fixture
def run(tmp_path):
    """A run of three steps with one validation; λ was 0 at the last."""
    home = tmp_path / "seed0" / "visd"
    (home / "csv").mkdir(parents=True)
    rows = "0,0.2,0.5,\n1,0.4,0.25,\n2,0.9,nan,\n2,,,0.6\n"
    header = "step,reward/total,credit/weight_better,val/reward\n"
    (home / "csv" / "metrics.csv").write_text(header + rows)
    found = {"seconds": 1, "stage1": {"step": 0, "reward": 0.1}, "visd": {"step": 3, "reward": 0.6}}
    (home / "summary.json").write_text(json.dumps(found))
    return home


def curve(run, name):
    return [values.tolist() for values in curves.read_curve(run, name, window=2)]


def test_training_curves_average_and_stop_where_nothing_was_measured(run):
    assert curve(run, "reward/total") == [[1.0, 2.0], pytest.approx([0.3, 0.65])]
    assert curve(run, "credit/weight_better") == [[1.0], [0.375]]
    assert curve(run, "policy/entropy") == [[], []]


def test_held_out_curves_begin_with_the_student_before(run):
    assert curve(run, "val/reward") == [[0.0, 3.0], [0.1, 0.6]]


def test_curves_are_drawn_where_they_are_logged(run, tmp_path):
    found = json.loads((run / "summary.json").read_text())
    found["stage1"]["mean_at_8"] = 0.3
    (run / "summary.json").write_text(json.dumps(found))
    curves.draw(tmp_path, ["visd"], 2, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    with pytest.raises(FileNotFoundError, match="seed"):
        curves.draw(tmp_path, ["grpo"], 2, tmp_path / "curves.png")
