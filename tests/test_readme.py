"""The commands of the README are run, made small where they train."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from lit_vdistill.__main__ import TOOLS, main

README, RESULTS = Path("README.md"), Path("experiments/RESULTS.md")
COMMANDS = re.findall(
    r"^ {4}(?:python -m lit_vdistill|lit-vdistill) (.+)$", README.read_text(), re.M
)
TRAINING = [c for c in COMMANDS if shlex.split(c)[0] not in TOOLS]
TOOL_CALLS = [c for c in COMMANDS if shlex.split(c)[0] in TOOLS]


def test_the_readme_has_commands():
    assert any("configs/rmsd.yaml" in command for command in TRAINING)
    assert TOOL_CALLS


@pytest.mark.parametrize("command", TRAINING)
def test_training_commands(command, tmp_path, capsys):
    args = shlex.split(command)
    if any(name in command for name in ("a100", "paper/", "gpu", "video_r1")):
        with pytest.raises(SystemExit) as stop:
            main([*args, "--print_config"])
        assert stop.value.code in (0, None)
        return
    main(
        [
            *args,
            "--stage1_config=null",
            "--model.policy.path=tiny/qwen3-vl",
            "--model.sampling.max_completion_tokens=6",
            "--trainer.fast_dev_run=1",
            "--trainer.logger=false",
            f"--data.sources.media_root={tmp_path}/world",
            f"--data.sources.cache_dir={tmp_path}/frames",
            "--data.loader.batch_size=2",
            "--data.loader.val_batch_size=2",
            "--data.world.train_videos=2",
            "--data.world.val_videos=1",
            "--data.world.test_videos=1",
            f"--run_dir={tmp_path}",
        ]
    )


@pytest.mark.parametrize("command", TOOL_CALLS)
def test_tool_commands(command, world, tmp_path, capsys):
    args = shlex.split(
        command.replace("runs/world", str(world)).replace("my_world", f"{tmp_path}/w")
    )
    if args[:2] == ["evaluate", "run"]:
        small = ["--benchmark.world=null", "--data_root", str(world), "--cache_dir=null"]
        student = ["--student=experiments/stage1/student", "--run_dir", str(tmp_path)]
        main([*args, *small, *student, "--limit=9"])
        assert "on world: 9 questions" in " ".join(capsys.readouterr().out.split())
        return
    counts = [f"--size.{split}_videos=1" for split in ("train", "val", "test")]
    small = counts if args[1] == "world" else []
    main([*args, *small])
    printed = capsys.readouterr().out
    assert printed.endswith("0 problems\n" if args[1] == "check" else "videos/\n")


def test_every_file_that_contributing_names_is_there():
    named = set(re.findall(r"`([\w/]+\.py)", Path("CONTRIBUTING.md").read_text()))
    roots = [Path(), Path("lit_vdistill"), Path("tests"), Path("lit_vdistill/readers")]
    missing = [name for name in named if not any((root / name).is_file() for root in roots)]
    assert missing == []
    for topic in ("A reward", "A stage", "A reader", "A task"):
        assert f"## {topic}\n" in Path("CONTRIBUTING.md").read_text()


def rows_of(text, head):
    """Cells of the one table with these first columns, line by line."""
    lines = text.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith(f"| {' | '.join(head)} |")]
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_its_results_are_those_of_the_experiments():
    """A dozen lines, each to the digit as `experiments/RESULTS.md` has it, verdict and all."""
    known = {row[0]: row for row in rows_of(RESULTS.read_text(), ["claim", "said in"])}
    (counted,) = re.findall(rf"^{len(known)} claims: .*\.$", RESULTS.read_text(), re.MULTILINE)
    assert counted in README.read_text().replace("\n", " ")
    rows = rows_of(README.read_text(), ["claim", "ours", "verdict"])
    assert 8 <= len(rows) <= 14
    for claim, ours, verdict in rows:
        assert (ours, verdict) == (known[claim][5], known[claim][7]), claim
