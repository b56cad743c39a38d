import re
import subprocess
import sys
from functools import reduce
from importlib.metadata import version
from operator import getitem
from pathlib import Path

import pytest
import yaml

import callbacks
import lit_vdistill
from lit_vdistill.__main__ import main
from lit_vdistill.cli.help import DATA
from lit_vdistill.cli.options import option_groups


def test_files_merge_and_the_command_line_wins(capsys, tmp_path):
    path = tmp_path / "more.yaml"
    path.write_text("trainer: {max_steps: 7}\nmodel: {init_args: {optim: {lr: 0.5}}}\n")
    with pytest.raises(SystemExit):
        main(
            ["fit", "--config", "configs/rmsd.yaml", "--config", str(path)]
            + ["--trainer.max_steps=9", "--run_dir=elsewhere", "--print_config"]
        )
    printed = capsys.readouterr().out
    assert "max_steps: 9" in printed
    assert "lr: 0.5" in printed
    assert "kl_coef: 0.001" in printed


@pytest.mark.parametrize("recipe", ["rmsd", "visd"])
def test_null_is_null_for_every_option_that_takes_it(capsys, recipe):
    """As in YAML: of a text it does not make "None", nor of a number a mistake."""
    names = [f"data.init_args.{name}" for name in nullable(DATA)]
    stage = f"lit_vdistill.stages.{recipe.upper()}Module"
    names += [f"model.init_args.{name}" for name in nullable(stage)]
    names = [name.replace("init_args.judge", "init_args.judge.init_args.path") for name in names]
    assert {"data.init_args.sources.cache_dir", "data.init_args.sources.pool_path"} < set(names)
    given = [f"--{name.replace('init_args.', '')}=null" for name in names]
    with pytest.raises(SystemExit):
        main(["fit", "--config", f"configs/{recipe}.yaml", *given, "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    for name in names:
        assert reduce(getitem, name.split("."), config) is None, name


def nullable(class_path):
    groups = option_groups(class_path)
    return [o.name for g in groups for o in g.options if o.kind.endswith("None")]


def test_help_lists_training_and_tools(capsys):
    main(["--help"])
    printed = capsys.readouterr().out
    for name in ("fit", "predict", "data check", "data world"):
        assert name in printed
    with pytest.raises(SystemExit):
        main(["fitt"])
    assert "did you mean 'fit'?" in capsys.readouterr().err


def test_tools_start_without_torch():
    code = (
        "import sys\nfrom lit_vdistill.__main__ import main\n"
        "try: main(['data', 'check', '--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_installed_command_finds_our_callbacks(tmp_path):
    """From another folder, where neither package is beside the working directory."""
    code = "import callbacks, lit_vdistill; print(callbacks.__file__, lit_vdistill.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout.split()
    assert [Path(path).parent.parent for path in found] == [
        Path(lit_vdistill.__file__).parent.parent
    ] * 2
    assert Path(callbacks.__file__).parent.parent == Path(lit_vdistill.__file__).parent.parent


def test_options_of_a_class_have_their_sentences_in_the_parsers_help_too(capsys):
    """Those of attribute docstrings, which jsonargparse reads when it is told to."""
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--model.help=RMSDModule"])
    assert stop.value.code == 0
    assert "Weight of the KL to the starting policy" in " ".join(capsys.readouterr().out.split())


def test_the_version_is_the_packages(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"lit-vdistill {version('lit-vdistill')}\n"


@pytest.fixture
def users_folder(tmp_path):
    """A folder with a module of the user's, and one that has the name of ours."""
    (tmp_path / "callbacks.py").write_text("raise RuntimeError('the wrong callbacks')\n")
    (tmp_path / "my_rewards.py").write_text(_readme_example())
    (tmp_path / "mine.yaml").write_text(
        "model: {init_args: {rewards: [{class_path: my_rewards.Brevity, init_args: {words: 7}}]}}\n"
    )
    return tmp_path


def _readme_example():
    (example,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.S)
    return example


@pytest.mark.parametrize(
    "front",
    [
        pytest.param(True, id="python -m"),
        pytest.param(False, id="installed", marks=pytest.mark.matrix),
    ],
)
def test_a_users_module_is_found_behind_ours(users_folder, front):
    """`python -m` puts the working directory first, the installed command its own folder."""
    root = Path(lit_vdistill.__file__).parent.parent
    paths = [str(users_folder), str(root)] if front else [str(root)]
    recipe = root / "configs/rmsd.yaml"
    args = ["fit", "--config", str(recipe), "--config", "mine.yaml", "--print_config"]
    code = (
        f"import sys\nsys.path[:1] = {paths!r}\n"
        f"from lit_vdistill.__main__ import main\nmain({args!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=users_folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "words: 7" in done.stdout


def test_the_readmes_reward_runs_as_it_is_printed(users_folder, make_sample):
    from lit_vdistill.rewards import reward_breakdown

    names = {}
    exec((users_folder / "my_rewards.py").read_text(), names)
    text = "<think>one two three</think><answer>B</answer>"
    for words, paid in ((3, 1.0), (2, 0.0)):
        reward = names["Brevity"](words=words)
        assert reward_breakdown([reward], text, make_sample()) == {"brevity": paid}
