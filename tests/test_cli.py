import subprocess
import sys
from pathlib import Path

import pytest

import callbacks
import lit_vdistill
from lit_vdistill.__main__ import main
from lit_vdistill.cli import with_bases


def refused(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "configs/rmsd.yaml", *args])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "nearest"),
    [
        (["--trainer.max_stepz=3"], "trainer.max_steps"),
        (["--model.optim.lrr=3"], "optim.lr"),
        (["--model.los.kl_coef=0"], "loss"),
        (["--data.loader.batchsize=3"], "loader.batch_size"),
    ],
)
def test_wrong_keys_on_the_command_line_name_the_nearest(capsys, args, nearest):
    error = refused(capsys, *args)
    assert f"Did you mean '{nearest}" in error
    assert len(error.splitlines()) < 8


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("trainr: {max_steps: 3}", "trainer.max_steps"),
        ("trainer: {max_stepz: 3}", "trainer.max_steps"),
        ("model: {init_args: {optm: {lr: 1}}}", "optim.lr"),
        ("model: {init_args: {optim: {lrr: 1}}}", "lr"),
        ("model: {class_path: lit_vdistill.stages.RMSDModul}", "RMSDModule"),
    ],
)
def test_wrong_keys_in_yaml_name_the_nearest(capsys, tmp_path, text, nearest):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    assert f"Did you mean '{nearest}'" in refused(capsys, "--config", str(path))


def test_wrong_types_are_refused_at_parse(capsys):
    assert "abc" in refused(capsys, "--model.optim.lr=abc")
    assert "quallity" in refused(capsys, "--model.matching.mode=quallity")


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


def test_bases_come_first_and_relative_to_their_file():
    expanded = with_bases(["fit", "--config=configs/gad.yaml", "--x", "1"])
    files = [Path(name).name for name in expanded[2:-2:2]]
    assert files == ["world.yaml", "cpu.yaml", "offline.yaml", "rmsd.yaml", "gad.yaml"]
    assert expanded[0] == "fit"
    assert expanded[-2:] == ["--x", "1"]


def test_a_missing_base_is_named(capsys, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("base: nowhere.yaml")
    with pytest.raises(SystemExit):
        with_bases(["--config", str(path)])
    assert "base 'nowhere.yaml' does not exist" in capsys.readouterr().err


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
