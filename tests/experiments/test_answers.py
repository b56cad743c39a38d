import pytest

from experiments import answers, students
from experiments.answers import Answered
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.world.questions import TASKS


def worth(*values):
    """A question a video, each worth the same greedily, sampled, in reward and at best."""
    return [Answered(f"q{i}", "mcq", "easy", f"v{i}", v, v, v, v) for i, v in enumerate(values)]


def test_a_difference_is_paired_question_by_question():
    """Both students vary by 0.5 from question to question, their difference does not vary."""
    before, after = worth(*[0.0, 1.0] * 50), worth(*[0.1, 1.1] * 50)
    found = answers.figures(answers.difference(after, before))
    assert found["greedy"] == found["mean/mcq"] == pytest.approx(0.1)
    assert found["greedy_error"] == pytest.approx(0.0, abs=1e-9)
    assert answers.figures(after)["greedy_error"] == pytest.approx(0.05, rel=0.2)
    with pytest.raises(ValueError, match="other questions"):
        answers.difference(after, after[1:] + after[:1])


def test_a_run_that_stands_is_not_repeated(tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        commands.append(command[4:])
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "summary.json").write_text("{}")
        (tmp_path / "a" / "config.yaml").write_text(
            "model: {init_args: {policy: {path: experiments/stage1}}}"
        )

    monkeypatch.setattr(answers.subprocess, "run", run)
    for _ in range(2):
        answers.fit("grpo.yaml", tmp_path / "a", 3, ["--name", "grpo"])
    home = str(tmp_path / "a")
    expected = ["grpo.yaml", "--seed_everything", "3", "--run_dir", home, "--overwrite"]
    expected += ["--name", "grpo"]
    assert commands == [["--config", *expected]]
    assert answers.start_of(tmp_path / "a") == "experiments/stage1"


def test_graded_answers_are_kept(tmp_path, world, families, monkeypatch):
    model, processor = families["qwen3-vl"]
    model.save_pretrained(tmp_path / "s")
    processor.save_pretrained(tmp_path / "s")
    monkeypatch.setattr(answers, "ROLLOUTS", 2)
    monkeypatch.setattr(students, "SAMPLING", SamplingConfig(max_completion_tokens=4))
    found = answers.answers_of(str(tmp_path / "s"), str(world), "test", tmp_path)
    assert [item.task for item in found] == [str(task) for task in TASKS]
    assert {(item.level, item.video) for item in found} == {("easy", "videos/test00000.mp4")}
    assert all(item.greedy == item.mean == item.reward == item.best == 0.0 for item in found)
    held_out = answers.answers_of(str(tmp_path / "s"), str(world), "val", tmp_path)
    assert {item.id for item in held_out}.isdisjoint(item.id for item in found)
    monkeypatch.setattr(answers, "Student", None)
    assert answers.answers_of("", "", "test", tmp_path) == found
