import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from callbacks import run_card
from lit_vdistill.__main__ import main

TABLE = (
    Path("README.md").read_text().partition("## How we read the papers")[2].partition("\n## ")[0]
)


def config_of(name, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", f"configs/{name}.yaml", "--print_config"])
    return yaml.safe_load(capsys.readouterr().out)


def test_the_card_has_each_switch_of_the_table(capsys):
    """As README names it, in one of the two recipes whose paper it is about."""
    switches = set(re.findall(r"`((?:disc|matching|loss|credit|data\.prompt)\.\w+)", TABLE))
    assert len(switches) >= 9
    found = [run_card.readings(config_of(name, capsys)) for name in ("rmsd", "visd")]
    known = {key.removeprefix("model.") for card in found for key in card}
    assert switches - known == set()
    assert found[0]["model.disc.pair_weight"] == "q"
    assert found[0]["model.loss.advantage"] == "dr_grpo"
    assert found[0]["rewards.Content"]["weight"] == 0.4
    assert "model.credit.dtype" not in found[0]
    assert "model.disc.pair_weight" not in found[1]
    assert found[1]["rewards.ThinkSpace"]["preset"] == "visd"
    assert found[1]["callbacks.ProximityAnnealing"]["start_s"] == 4.0
    assert found[1]["callbacks.EMATeacherUpdate"]["mode"] == "ema"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model": None, "data": None, "trainer": None},
        {"model": {"init_args": {"disc": None, "rewards": None}}, "trainer": {"callbacks": None}},
    ],
)
def test_a_config_without_switches_has_no_readings(config):
    assert run_card.readings(config) == {}


def test_a_value_of_null_is_a_reading():
    config = {"data": {"init_args": {"prompt": {"envelope": None}}}}
    assert run_card.readings(config) == {"data.prompt.envelope": None}


def test_the_commit_is_that_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert run_card.commit() is None
    as_someone = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    Path("a.txt").write_text("1")
    for command in (["init", "-q"], ["add", "a.txt"], [*as_someone, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], check=True)
    clean = run_card.commit()
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{40}", clean)
    Path("a.txt").write_text("2")
    assert run_card.commit() == f"{clean}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_card.commit() is None


def test_the_machine_is_described_in_numbers_that_can_be():
    found = run_card.hardware()
    assert found["cpus"] >= 1
    assert found["memory_gib"] > 0.1
    assert json.dumps(found)
    assert run_card.peak_memory_gib()["host"] > 0.01
