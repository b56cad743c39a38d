from pathlib import Path

import pytest

from lit_vdistill.cli.config_files import merged, named_files, stage_class, with_bases


def refused(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        with_bases(args)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


def test_bases_come_first_and_relative_to_their_file():
    expanded = with_bases(["fit", "--config=configs/gad.yaml", "--x", "1"])
    files = [Path(name).name for name in expanded[2:-2:2]]
    assert files == ["world.yaml", "cpu.yaml", "offline.yaml", "rmsd.yaml", "gad.yaml"]
    assert expanded[0] == "fit"
    assert expanded[-2:] == ["--x", "1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("base: nowhere.yaml", "base 'nowhere.yaml' does not exist"),
        ("trainer: {max_steps: 1\nx: [", "c.yaml:2:2: not YAML"),
        ("trainer:\n\tmax_steps: 1", "c.yaml:2:1: not YAML"),
        ("just words", "expected keys as `trainer:`, got 'just words'"),
        (b"name: \xff", "not YAML in UTF-8"),
    ],
)
def test_a_file_that_is_no_config_is_named_with_its_place(capsys, tmp_path, text, told):
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert told in refused(capsys, "--config", str(path))


def test_a_missing_file_is_named(capsys):
    assert "--config nope.yaml: no such file" in refused(capsys, "fit", "--config", "nope.yaml")


def test_files_merge_as_the_parser_does_it(tmp_path):
    (tmp_path / "a.yaml").write_text("x: {y: 1, z: [1]}\nname: a")
    (tmp_path / "b.yaml").write_text("x: {y: 2, z+: 2}\n")
    whole = merged([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert whole == {"x": {"y": 2, "z": [1, 2]}, "name": "a"}


def test_the_stage_is_that_of_the_line_or_of_the_last_file():
    args = with_bases(["fit", "--config", "configs/visd.yaml", "--config", "configs/gad.yaml"])
    assert [path.name for path in named_files(args)][-1] == "gad.yaml"
    assert stage_class(args) == "lit_vdistill.stages.RMSDModule"
    assert stage_class([*args, "--model=SFTModule"]) == "lit_vdistill.stages.SFTModule"
    assert stage_class(["fit"]) is None
