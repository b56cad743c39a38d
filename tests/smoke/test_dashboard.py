"""What W&B is given, read back from runs without a network, beside what the page about it says."""

import json
import math
import re
import subprocess
import sys
from collections import ChainMap
from pathlib import Path

import pytest

from lit_vdistill.tracking.workspace import SECTIONS
from lit_vdistill.world.questions import TASKS

PAGE = Path("configs/logger/README.md")
GROUP = 4
OTHERS = {"epoch", "trainer/global_step"}
"""Lightning's own."""


def read_back(folder):
    """Metric keys that had a value, media by key, and the config, of a run that W&B wrote here."""
    (written,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(written)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in told.splitlines()]
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    media = {}
    for item in items:
        for name in [key.removesuffix("._type") for key in item if key.endswith("._type")]:
            media.setdefault(name, []).append(item)
    inner = ("_", *(f"{name}." for name in media))
    # What could not be measured is written as a text, "NaN".
    values = [pair for item in items for pair in item.items() if not isinstance(pair[1], str)]
    keys = {key for key, _ in values if not key.startswith(inner)}
    configs = [record["config"]["update"] for record in records if record["type"] == "config"]
    return keys, media, dict(ChainMap(*reversed(configs)))


@pytest.fixture(scope="module")
def logged(small_run, starting_student, pay_by_text, tmp_path_factory):
    """One run of each method, with every observer at every step; by name: folder and read back."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio"))
        )  # read as it is imported
        pay_by_text(patch)
        for name in ("rmsd", "visd"):
            out = tmp_path_factory.mktemp(name)
            # The discriminator reads whole rollouts; credit needs some that differ.
            ends = [f"--model.policy.path={starting_student}"] if name == "rmsd" else []
            small_run(name, out, *observed(name, out), *ends)
            found[name] = out, *read_back(out)
    return found


def observed(name, out):
    seen = ["RolloutTable", "TrainingHealth", "RunCard", "ProximityAnnealing", "TokenCreditView"]
    options = {
        "RolloutTable": [f"path={out}/rollouts.jsonl", "every_n_steps=1"],
        "TrainingHealth": [f"folder={out}", "window=1", "limits.no_signal=-1.0"],
        "RunCard": [f"folder={out}"],
        "ProximityAnnealing": ["start_s=4.0", "end_s=1.0", "num_steps=2"],
        "TokenCreditView": [f"folder={out}", "every_n_steps=1"],
    }
    line = []
    for place, callback in enumerate(seen if name == "visd" else seen[:3]):
        line.append(f"--trainer.callbacks{'+' if place else ''}=callbacks.{callback}")
        line += [f"--trainer.callbacks.{option}" for option in options[callback]]
    logger = ["class_path=lightning.pytorch.loggers.WandbLogger", f"save_dir={out}", "offline=true"]
    line += [f"--trainer.logger.{option}" for option in logger]
    trackio = "lit_vdistill.tracking.trackio_logger.TrackioLogger"
    line += [f"--trainer.logger+={trackio}", "--trainer.logger.project=dashboard"]
    line += [f"--trainer.logger.name={name}"]
    line += ["--trainer.log_every_n_steps=1", f"--model.loss.group_size={GROUP}"]
    return line + (["--model.disc.warmup_max_steps=0"] if name == "rmsd" else [])


@pytest.fixture(scope="module")
def keys(logged):
    return set().union(*(found[1] for found in logged.values()))


def named(heading):
    """Names in the first column of a table of the page, as patterns, `<…>` for any."""
    part = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall("`([^`]+)`", row)]
    return [re.sub("<[^>]+>", "[^/]+", re.escape(name)) for name in names]


def test_the_page_names_what_is_logged_and_nothing_else(keys):
    patterns = named("Keys")
    assert len(patterns) > 40
    missing = [p for p in patterns if not any(re.fullmatch(p, key) for key in keys)]
    assert missing == []
    by_task = re.compile(f"(val/[^/]+)/({'|'.join(TASKS)})")
    whole = {m[1] if (m := by_task.fullmatch(key)) else key for key in keys}
    assert {k for k in whole if not any(re.fullmatch(p, k) for p in patterns)} == OTHERS


def test_the_workspace_plots_what_is_logged(keys, logged):
    plots = [plot for section in SECTIONS for plot in section.plots]
    assert {name for plot in plots for name in plot.metrics} - keys == set()
    patterns = [plot.pattern for plot in plots if plot.pattern]
    assert [p for p in patterns if not any(re.search(p, key) for key in keys)] == []
    media = {section.media for section in SECTIONS} | {section.table for section in SECTIONS}
    shown = {name for found in logged.values() for name in found[2]}
    assert media - {None} == shown == set(named("Table, page and card")) - {"run_card"}


def test_a_table_shows_rollouts_beside_their_frames(logged):
    out, _, media, _ = logged["rmsd"]
    assert [item["rollout/table._type"] for item in media["rollout/table"]] == ["table-file"] * 2
    assert [item["trainer/global_step"] for item in media["rollout/table"]] == [0, 1]
    files = out.glob("wandb/offline-run-*/files/media/table/rollout/*.table.json")
    tables = [json.loads(path.read_text()) for path in files]
    rows = [json.loads(line) for line in (out / "rollouts.jsonl").open()]
    assert len(rows) == 2 * 3 * GROUP
    assert {"matched_teacher", "advantage", "feedback", "reward/disc"} <= rows[0].keys()
    for table in tables:
        assert table["columns"] == ["frames", *rows[0]]
        shown = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        assert len(shown) == 2 * GROUP
        assert {row.pop("frames") for row in shown} == {"Image"}
        assert all(row in rows for row in shown)


def test_a_judges_words_stand_beside_the_rollouts_they_are_about(logged):
    out, _, media, _ = logged["visd"]
    rows = [json.loads(line) for line in (out / "rollouts.jsonl").open()]
    assert {"rollout/table", "credit/page"} == media.keys()
    records = [json.loads(path.read_text()) for path in sorted((out / "credit").glob("*.json"))]
    assert records
    for record in records:
        of = [r for r in rows if (r["step"], r["sample"]) == (record["step"], record["sample"])]
        assert of[record["rollout"]]["feedback"] == record["feedback"]
        assert all((row["feedback"] is None) == (row["advantage"] == 0) for row in of)
    assert any(record["feedback"] for record in records)


def test_credit_pages_are_whole_and_ask_for_nothing(logged):
    out, _, media, _ = logged["visd"]
    assert {item["credit/page._type"] for item in media["credit/page"]} == {"html-file"}
    pages = [p.read_text() for p in out.glob("wandb/offline-run-*/files/media/html/credit/*.html")]
    assert len(pages) == len(list((out / "credit").glob("*.json")))
    for page in pages:
        assert "Token credit: " in page
        assert not re.search("<script|<link|src=.http", page)


@pytest.mark.parametrize("name", ["rmsd", "visd"])
def test_the_card_is_in_the_config(logged, name):
    out, _, _, config = logged[name]
    card = json.loads((out / "run_card.json").read_text())
    assert config["run_card"] == card
    assert config["model"]["class_path"] == f"lit_vdistill.stages.{card['stage']}"


@pytest.mark.parametrize("name", ["rmsd", "visd"])
def test_trackio_has_what_wandb_has(logged, name):
    from trackio.sqlite_storage import SQLiteStorage

    out, keys, media, _ = logged[name]
    rows = SQLiteStorage.get_logs("dashboard", name)
    values = {(row["step"], key): value for row in rows for key, value in row.items()}
    numbers = [pair for pair in values.items() if isinstance(pair[1], float | int)]
    kept = {key for (_, key), value in numbers if math.isfinite(value)}
    assert kept - {"step"} == keys - {"trainer/global_step"}
    shown = {key for (_, key), value in values.items() if isinstance(value, dict)}
    assert shown == media.keys()
    written = [json.loads(line) for line in (out / "rollouts.jsonl").open()]
    for step in (0, 1):
        table = values[step, "rollout/table"]["_value"]
        texts = [row["response"] for row in written if row["step"] == step]
        assert texts[: len(table)] == [row["response"] for row in table]
        assert {row["frames"]["_type"] for row in table} == {"trackio.image"}
    card = SQLiteStorage.get_run_config("dashboard", name)["run_card"]
    assert card == json.loads((out / "run_card.json").read_text())
