import json
from pathlib import Path

import pytest

from lit_vdistill.__main__ import main
from lit_vdistill.cli.config_files import with_bases
from lit_vdistill.cli.student import with_student

TINY, REAL = "configs/models/tiny_qwen3.5.yaml", "configs/models/qwen3.5_4b.yaml"


def told(recipe, *more):
    """What is said behind the files of a command line, by option."""
    args = with_student(with_bases(["fit", "--config", recipe, "--config", *more]))
    return dict(arg.removeprefix("--").split("=", 1) for arg in args if "=" in arg)


@pytest.mark.parametrize(
    ("recipe", "fragment", "stages", "path"),
    [
        ("sft_perception", TINY, [], "tiny/qwen3.5"),
        ("sft", TINY, ["sft_perception"], "runs/sft_perception_tiny_qwen3.5/student"),
        ("sft", REAL, [], "Qwen/Qwen3.5-4B"),
        ("rmsd", REAL, ["sft"], "runs/sft_qwen3.5_4b/student"),
        ("rmsd", TINY, ["sft"], "experiments/stage1_tiny_qwen3.5/student"),  # lies there
        ("sft_gad", REAL, [], "Qwen/Qwen3.5-4B"),
        ("gad", REAL, ["sft_gad"], "runs/sft_gad_qwen3.5_4b/student"),
        ("visd", TINY, ["sft_privileged"], "runs/sft_privileged_tiny_qwen3.5/student"),
        ("visd", REAL, ["sft"], "runs/sft_qwen3.5_4b/student"),
        ("rmsd_then_visd", REAL, ["rmsd"], "runs/rmsd_qwen3.5_4b/student"),
        ("paper/visd_qwen25vl7b", REAL, ["paper/visd_sft_qwen25vl7b"],
         "runs/sft_qwen25vl7b_qwen3.5_4b/student"),
    ],
)  # fmt: skip
def test_earlier_stages_are_the_students_own(recipe, fragment, stages, path):
    """A pretrained one goes without those that teach random weights, however many there are."""
    said = told(f"configs/{recipe}.yaml", fragment)
    assert said["model.policy.path"] == path
    left = [stage for stage in json.loads(said["stage1_config"]) if len(stage) > 2]
    name = "tiny_qwen3.5" if fragment == TINY else "qwen3.5_4b"
    assert [stage[1:] for stage in left] == [
        [f"configs/{stage}.yaml", fragment] for stage in stages
    ]
    assert all(stage[0] == path.removesuffix("/student") for stage in left)
    assert said["run_dir"].endswith(f"_{name}")
    assert said["name"].endswith(f"_{name}")


def test_without_stages_a_run_begins_with_the_student():
    args = ["fit", "--config", "configs/rmsd.yaml", "--config", TINY, "--stage1_config", "null"]
    told = [arg for arg in with_student(with_bases(args)) if "=" in arg]
    assert told == [
        "--name=rmsd_tiny_qwen3.5", "--run_dir=runs/rmsd_tiny_qwen3.5",
        "--model.policy.path=tiny/qwen3.5",
    ]  # fmt: skip


@pytest.mark.parametrize("stages", ["x", "[x]", "[[x]]", "{x: y}", "[[[], y]]", "3"])
def test_what_is_no_stage_is_refused(capsys, tmp_path, stages):
    file = tmp_path / "own.yaml"
    file.write_text(f"model: {{init_args: }}\nstage1_config: {stages}")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "configs/rmsd.yaml", "--config", str(file), "--config", TINY])
    assert stop.value.code == 2
    assert "stage1_config: expected a list of [folder, config" in capsys.readouterr().err


def test_another_network_keeps_its_stage():
    said = told("configs/opd.yaml", TINY)
    policy, teacher = json.loads(said["stage1_config"])
    assert policy == ["experiments/stage1_tiny_qwen3.5", "configs/sft.yaml", TINY]
    assert teacher == ["runs/sft_longer", "configs/sft_longer.yaml"]


def test_the_command_line_wins_and_without_a_student_nothing_is_said(tmp_path):
    for given in (["--run_dir", "x"], ["--run_dir=x"]):
        own = [*given, "--model.init_args.policy.path=y"]
        for line in (["--config", TINY, *own], [*own, "--config", TINY]):
            args = with_student(with_bases(["fit", "--config", "configs/rmsd.yaml", *line]))
            assert sum(arg.startswith("--run_dir") for arg in args) == 1
            assert sum("policy.path" in arg for arg in args) == 1
            assert "--name=rmsd_tiny_qwen3.5" in args
    args = with_bases(["fit", "--config", "configs/rmsd.yaml", "--run_dir", "x"])
    assert with_student(args) == args
    # As `base` of a user's own file it is the same.
    own = tmp_path / "own.yaml"
    below = [str(Path(file).resolve()) for file in ("configs/rmsd.yaml", TINY)]
    own.write_text(f"base: {json.dumps(below)}\nname: own")
    said = told("configs/sft.yaml", str(own))
    assert said["name"] == "own_tiny_qwen3.5"
    assert said["model.policy.path"] == "experiments/stage1_tiny_qwen3.5/student"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("student: mine", "expected a name and a path"),
        ("student: {name: mine}", "expected a name and a path"),
        ("student: {name: mine, path: x, stage: y}", "expected a name and a path"),
        ("student: {name: mine, path: 3}", "expected a name and a path"),
        ("student: {name: a/b, path: x}", "student.name is a part of folder names"),
        ("student: {name: [a], path: x}", "student.name is a part of folder names"),
    ],
)
def test_a_student_that_is_not_said_as_it_should_be_is_refused(capsys, tmp_path, text, said):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        told("configs/rmsd.yaml", str(file))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert str(file) in error
    assert said in error


def test_a_student_on_the_command_line_is_refused(capsys):
    with pytest.raises(SystemExit):
        with_student(["fit", "--config", "configs/rmsd.yaml", "--student.path=x"])
    assert "named in a config file, as those in configs/models" in capsys.readouterr().err


def test_the_command_follows_it(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", "configs/sft.yaml", "--config", TINY, "--print_config"])
    assert "run_dir: runs/sft_tiny_qwen3.5\n" in capsys.readouterr().out
