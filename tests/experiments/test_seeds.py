import json
import shutil

import pytest

from experiments import curves, seeds, students
from experiments.seeds import Answered
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.world.questions import TASKS


def answers(*worth):
    """A question a video, each worth the same greedily, sampled and in reward."""
    return [Answered(f"q{i}", "mcq", "easy", f"v{i}", v, v, v) for i, v in enumerate(worth)]


def test_a_difference_is_paired_question_by_question():
    """Both students vary by 0.5 from question to question, their difference does not vary."""
    before, after = answers(*[0.0, 1.0] * 50), answers(*[0.1, 1.1] * 50)
    found = seeds.figures(seeds.difference(after, before))
    assert found["greedy"] == found["mean/mcq"] == pytest.approx(0.1)
    assert found["greedy_error"] == pytest.approx(0.0, abs=1e-9)
    assert seeds.figures(after)["greedy_error"] == pytest.approx(0.05, rel=0.2)
    with pytest.raises(ValueError, match="other questions"):
        seeds.difference(after, after[1:] + after[:1])


def test_the_report_sets_the_recipe_beside_its_variants_and_the_student_before():
    after = {
        "rmsd": {"0": answers(0.6, 0.2), "1": answers(0.8, 0.4)},
        "sft_rl": {"0": answers(0.5, 0.1), "1": answers(0.5, 0.1)},
    }
    found = seeds.report(answers(0.4, 0.0), after)
    assert found["rmsd"]["mean"] == pytest.approx(0.5)
    assert found["rmsd - before"]["mean"] == pytest.approx(0.3)
    assert found["sft_rl - before, seed 1"]["mean"] == pytest.approx(0.1)
    assert found["rmsd - sft_rl"]["mean"] == pytest.approx(0.2)
    assert found["rmsd - sft_rl, seed 0"]["mean"] == pytest.approx(0.1)
    lines = seeds.table(found).splitlines()
    assert "| rmsd - sft_rl | +0.200 ± 0.000 | +0.200 ± 0.000 | +0.200 ± 0.000 |" in lines
    assert lines[2].startswith("| before | 0.200 ± ")
    assert lines[0] == f"| student | greedy score | mean@{seeds.ROLLOUTS} | reward |"


def test_a_run_that_stands_is_not_repeated(tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        commands.append(command[4:])
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "summary.json").write_text("{}")
        (tmp_path / "a" / "config.yaml").write_text(
            "model: {init_args: {policy: {path: experiments/stage1}}}"
        )

    monkeypatch.setattr(seeds.subprocess, "run", run)
    for _ in range(2):
        seeds.fit("grpo.yaml", tmp_path / "a", 3, ["--name", "grpo"])
    home = str(tmp_path / "a")
    expected = ["grpo.yaml", "--seed_everything", "3", "--run_dir", home, "--overwrite"]
    expected += ["--name", "grpo"]
    assert commands == [["--config", *expected]]
    assert seeds.start_of(tmp_path / "a") == "experiments/stage1"


def test_graded_answers_are_kept(tmp_path, world, families, monkeypatch):
    model, processor = families["qwen3-vl"]
    model.save_pretrained(tmp_path / "s")
    processor.save_pretrained(tmp_path / "s")
    monkeypatch.setattr(seeds, "ROLLOUTS", 2)
    monkeypatch.setattr(students, "SAMPLING", SamplingConfig(max_completion_tokens=4))
    found = seeds.answers_of(str(tmp_path / "s"), str(world), "test", tmp_path)
    assert [item.task for item in found] == [str(task) for task in TASKS]
    assert {(item.level, item.video) for item in found} == {("easy", "videos/test00000.mp4")}
    assert all(item.greedy == item.mean == item.reward == 0.0 for item in found)
    held_out = seeds.answers_of(str(tmp_path / "s"), str(world), "val", tmp_path)
    assert {item.id for item in held_out}.isdisjoint(item.id for item in found)
    monkeypatch.setattr(seeds, "Student", None)
    assert seeds.answers_of("", "", "test", tmp_path) == found


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


def test_held_out_curves_begin_with_their_first_score_where_nothing_is_known_before(run):
    found = json.loads((run / "summary.json").read_text())
    del found["stage1"]
    (run / "summary.json").write_text(json.dumps(found | {"samples": {"visd": {"reward": 9}}}))
    assert curve(run, "val/reward") == [[3.0], [0.6]]


def test_curves_are_drawn_where_they_are_logged(run, tmp_path, monkeypatch):
    """No panel for what was never logged, or for fewer steps than a point averages."""
    drawn = []
    monkeypatch.setattr(curves.Axes, "set_title", lambda axis, title: drawn.append(title))
    png = tmp_path / "curves.png"
    curves.draw(tmp_path, ["visd"], 2, png)
    assert png.stat().st_size > 10_000
    assert drawn == ["Held-out reward", "Total reward", "Mean weight where A > 0"]
    other = tmp_path / "seed0" / "rmsd"
    shutil.copytree(run, other)
    rows = "step,val/mean_at_4,disc/accuracy\n0,,0.5\n1,,0.5\n2,0.5,0.5\n"
    (other / "csv" / "metrics.csv").write_text(rows)
    drawn.clear()
    curves.draw(tmp_path, ["visd", "rmsd"], 3, png)
    assert drawn == [
        "Held-out reward",
        "Total reward",
        "Held-out mean@4",
        "Discriminator: accuracy",
    ]
    with pytest.raises(FileNotFoundError, match="seed"):
        curves.draw(tmp_path, ["grpo"], 2, png)
    (other / "csv" / "metrics.csv").write_text("step\n")
    with pytest.raises(ValueError, match="none of its runs"):
        curves.draw(tmp_path, ["rmsd"], 2, png)


def test_runs_of_unlike_length_are_drawn_as_far_as_all_go(run, tmp_path):
    longer = tmp_path / "seed1" / "visd"
    shutil.copytree(run, longer)
    with (longer / "csv" / "metrics.csv").open("a") as file:
        file.write("3,0.9,0.5,\n")
    curves.draw(tmp_path, ["visd"], 2, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
