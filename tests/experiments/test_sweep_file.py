from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from experiments.sweep_file import SweepFileError, config_of, expanded, hash_of, read_sweep

SWEEPS = sorted(Path("experiments/sweeps").glob("*.yaml"))
CELLS = sorted(Path("experiments/sweeps/cells").glob("*.yaml"))
COMMAND = ["${env}", "${interpreter}", "-m", "${program}", "fit", "--config=a.yaml", "${args}"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a sweep over a recipe of its own, with keys changed, and gives its path."""
    monkeypatch.chdir(tmp_path)
    recipe = {
        "name": "a", "run_dir": "runs/a", "seed_everything": 0,
        "model": {"class_path": "A", "init_args": {"loss": {"clip": 0.2}}},
        "trainer": {"logger": [{"class_path": "L"}], "callbacks": [{"class_path": "C"}]},
    }  # fmt: skip
    Path("a.yaml").write_text(yaml.safe_dump(recipe))
    Path("b.yaml").write_text("base: a.yaml\nname: b\nmodel: {init_args: {loss: {clip: 0.5}}}\n")

    def build(**changes):
        found = {
            "name": "s",
            "program": "lit_vdistill",
            "command": COMMAND,
            "method": "grid",
            "metric": {"name": "val/score", "goal": "maximize"},
            "parameters": {"model.loss.clip": {"values": [0.2, 0.5]}},
        } | changes
        kept = {key: value for key, value in found.items() if value is not ...}
        Path("s.yaml").write_text(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))
        return Path("s.yaml")

    return build


def test_the_grid_runs_in_the_order_of_the_file_the_last_parameter_fastest(write):
    parameters = {
        "model.loss.clip": {"values": [0.5, 0.2]},
        "model.mode": {"values": ["x", True]},
        "model.fixed": {"value": 7},
        "seed_everything": {"values": [4, 2]},
    }
    sweep = read_sweep(write(parameters=parameters))
    names = ["clip-0.5_mode-x", "clip-0.5_mode-True", "clip-0.2_mode-x", "clip-0.2_mode-True"]
    assert [cell.name for cell in sweep.cells] == names
    assert sweep.seeds == (4, 2)
    told = ("--model.loss.clip=0.2", "--model.mode=x", "--model.fixed=7")
    assert sweep.cells[2].arguments == ("--config=a.yaml", *told)


def test_recipes_are_called_as_their_files_and_a_lone_cell_as_its_sweep(write):
    both = {"config": {"values": ["a.yaml", "sub/b.yaml"]}}
    assert [cell.name for cell in read_sweep(write(parameters=both)).cells] == ["a", "b"]
    one = {"model.loss.clip": {"value": 0.2}}
    assert [cell.name for cell in read_sweep(write(parameters=one)).cells] == ["s"]


def test_macros_are_filled_in_as_the_agent_of_wandb_does():
    point = {"a.b": 0.5, "mode": "x y", "flag": True, "config": "c.yaml"}
    theirs = create_sweep_command_args({"args": {k: {"value": v} for k, v in point.items()}})
    for macro in ("args", "args_no_hyphens"):
        command = ["${env}", "${interpreter}", "-m", "${program}", "fit", "${" + macro + "}"]
        head = ["/usr/bin/env", "python", "-m", "p", "fit"]
        assert expanded(command, "p", point) == [*head, *theirs[macro]]


def test_the_same_values_have_the_same_hash_however_they_are_said(write):
    """By an override or a recipe, whatever the run is called, logs to or draws from."""
    over, two = read_sweep(write()).cells
    command = [word for word in COMMAND if not word.startswith("--config")]
    command += ["--trainer.logger.offline=false", "--run_dir=x"]
    recipes = {"config": {"values": ["a.yaml", "b.yaml"]}}
    one, half = read_sweep(write(command=command, parameters=recipes)).cells
    hashes = [hash_of(config_of(cell)) for cell in (over, one, two, half)]
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]
    config = config_of(half)
    assert config == {
        "model": {"class_path": "A", "init_args": {"loss": {"clip": 0.5}}},
        "trainer": {"callbacks": [{"class_path": "C"}]},
    }


def test_overrides_reach_the_last_item_of_a_list_and_do_not_add_to_one(write):
    parameters = {"trainer.callbacks.mode": {"values": ["x", "y"]}}
    cell = read_sweep(write(parameters=parameters)).cells[1]
    expected = [{"class_path": "C", "init_args": {"mode": "y"}}]
    assert config_of(cell)["trainer"]["callbacks"] == expected
    added = read_sweep(write(parameters={"trainer.callbacks+": {"value": "D"}})).cells[0]
    with pytest.raises(ValueError, match="write it into a recipe"):
        config_of(added)


BAD = {
    "no metric": ({"metric": ...}, "expected the keys metric"),
    "unknown key": ({"early_terminate": {"type": "hyperband"}}, "no keys but .*early_terminate"),
    "other name": ({"name": "t"}, "name: expected 's', as its file, got 't'"),
    "empty program": ({"program": "  "}, "program: expected a text"),
    "bayes": ({"method": "bayes"}, "method: expected 'grid', got 'bayes'"),
    "goal": ({"metric": {"name": "x", "goal": "max"}}, "metric.goal: expected maximize or"),
    "metric is a text": ({"metric": "x"}, "metric: expected keys name, goal, got 'x'"),
    "no parameters": ({"parameters": {}}, "parameters: expected one key or more"),
    "parameters nested": ({"parameters": {"a": {"parameters": {}}}}, "parameters.a: .*alone"),
    "a distribution": ({"parameters": {"a": {"min": 0, "max": 1}}}, "`value` or `values` alone"),
    "both": ({"parameters": {"a": {"value": 1, "values": [1]}}}, "`value` or `values` alone"),
    "no values": ({"parameters": {"a": {"values": []}}}, "a list of values, got \\[\\]"),
    "values no list": ({"parameters": {"a": {"values": "xyz"}}}, "a list of values, got 'xyz'"),
    "nan": ({"parameters": {"a": {"values": [1, float("nan")]}}}, "finite numbers.*got nan"),
    "infinite": ({"parameters": {"a": {"value": float("inf")}}}, "finite numbers.*got inf"),
    "null": ({"parameters": {"a": {"values": [None]}}}, "null as the text 'null'"),
    "a list": ({"parameters": {"a": {"values": [[1]]}}}, "expected texts, finite numbers"),
    "twice": ({"parameters": {"a": {"values": [1, "1"]}}}, "each value once"),
    "a path": ({"parameters": {"a": {"values": ["x/y", "z"]}}}, "a file's name.*'a-x/y'"),
    "two of a name": (
        {"parameters": {"config": {"values": ["a.yaml", "c/a.yaml"]}}},
        "a name of its own, got \\['a'\\]",
    ),
    "half a seed": ({"parameters": {"seed_everything": {"value": 0.5}}}, "whole numbers from 0"),
    "no args": ({"command": COMMAND[:-1]}, "one of \\$\\{args\\}"),
    "args twice": ({"command": [*COMMAND, "${args_no_hyphens}"]}, "once"),
    "unknown macro": ({"command": [*COMMAND, "${args_json}"]}, "no macros but"),
    "no fit": ({"command": ["${program}", "${args}"]}, "`fit` behind"),
    "a number": ({"command": [*COMMAND, 7]}, "a list of words"),
    "a text": ({"command": "fit ${args}"}, "a list of words"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_sweep_is_refused_by_file_and_key(write, case):
    changes, message = BAD[case]
    with pytest.raises(SweepFileError, match=message) as caught:
        read_sweep(write(**changes))
    assert str(caught.value).startswith("s.yaml: ")


@pytest.mark.parametrize("text", ["[", "- a", "", "\x00", "a: " + "[" * 5000, "übel: 1"])
def test_what_is_no_mapping_is_refused_by_file(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(SweepFileError, match=r"s\.yaml"):
        read_sweep(path)
    path.write_bytes(b"name: \xff")
    with pytest.raises(SweepFileError, match="not YAML in UTF-8"):
        read_sweep(path)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_shipped_sweeps_have_cells_that_differ(path):
    sweep = read_sweep(path)
    hashes = [hash_of(config_of(cell)) for cell in sweep.cells]
    assert len(set(hashes)) == len(hashes) > 1


def test_cells_of_different_sweeps_are_shared():
    known = {
        f"{sweep.name}/{cell.name}": hash_of(config_of(cell))
        for sweep in map(read_sweep, SWEEPS)
        for cell in sweep.cells
    }
    visd = ("dose/mix-0.5_clip-0.2", "visd_grpo/mix-0.5", "visd_feedback/visd", "visd_view/visd")
    assert len({known[name] for name in visd}) == 1
    rmsd = ("rmsd_components/rmsd", "rmsd_pool_size/pool_size-4", "rmsd_threshold/threshold-0.3")
    assert len({known[name] for name in rmsd}) == 1


def test_every_cell_that_lies_there_is_swept_over():
    named = {cell.parameters.get("config") for s in map(read_sweep, SWEEPS) for cell in s.cells}
    assert {str(path) for path in CELLS} <= named


@pytest.mark.matrix
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_cell_is_a_command_that_the_parser_takes(path, capsys, monkeypatch):
    """As W&B would call it, too: the folder is named by its run."""
    from lit_vdistill.__main__ import main

    monkeypatch.setenv("WANDB_RUN_ID", "r7")
    for cell in read_sweep(path).cells:
        with pytest.raises(SystemExit) as caught:
            main(["fit", *cell.arguments, "--print_config"])
        assert caught.value.code in (None, 0)
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed["run_dir"] == "runs/wandb/r7"
        loggers = printed["trainer"]["logger"]
        assert loggers[-1]["init_args"]["offline"] is False
        ours = config_of(cell)
        assert ours["trainer"]["max_steps"] == printed["trainer"]["max_steps"]
        said, given = ours["model"]["init_args"], printed["model"]["init_args"]
        # A cell of another class has VISD's keys from its base, which the command leaves out.
        for group in {"credit", "improbable"} & said.keys() & given.keys():
            values = {key: value for key, value in said[group].items() if key != "view"}
            assert values.items() <= given[group].items()
        assert ("improbable" in given) == (cell.name == "visd_improbable")
