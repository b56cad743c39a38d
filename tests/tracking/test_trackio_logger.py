import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json
from PIL import Image
from lit_vdistill.tracking.logged_media import log_page, log_rollouts, that_show_media
from lit_vdistill.tracking.trackio_logger import TrackioLogger

logger = TrackioLogger("lit_vdistill", "übel")
logger.log_hyperparams({"model": {"lr": 0.1}})
logger.log_hyperparams({"run_card": {"commit": "c0ffee"}})
logger.log_metrics({"reward/total": 0.5, "val/score": 0.25}, step=0)
logger.log_metrics({"reward/total": float("nan")}, step=1)
rows = [{"sample": "a", "response": "<answer>B</answer>"}, {"sample": "text", "response": "|"}]
loggers = that_show_media([logger])
log_rollouts(loggers, rows, {"a": Image.new("RGB", (8, 8), "red")}, step=1)
log_page(loggers, "<p>credit &amp; more</p>", step=1)
logger.log_hyperparams({"run_card": {"commit": "c0ffee", "outcome": "finished"}})
logger.finalize("success")
"""
READ = """
import json
from trackio.sqlite_storage import SQLiteStorage
runs = SQLiteStorage.get_runs("lit_vdistill")
logs = SQLiteStorage.get_logs("lit_vdistill", runs[0])
config = SQLiteStorage.get_run_config("lit_vdistill", runs[0])
print(json.dumps([runs, logs, config], default=str))
"""


def told(script, folder):
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"TRACKIO_DIR": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, done.stderr


def test_what_a_run_shows_is_read_back_from_trackio(tmp_path):
    """Numbers, table with pictures, page and config, that of the end too."""
    _, warnings = told(SCRIPT, tmp_path)
    assert "Warning" not in warnings
    runs, logs, config = json.loads(told(READ, tmp_path)[0].splitlines()[-1])
    assert runs == ["übel"]
    assert config["model"] == {"lr": 0.1}
    assert config["run_card"] == {"commit": "c0ffee", "outcome": "finished"}
    values = {}
    for row in logs:
        values |= {(row["step"], key): value for key, value in row.items()}
    assert values[0, "reward/total"] == 0.5
    assert values[0, "val/score"] == 0.25
    assert values[1, "reward/total"] != 0.5
    table = values[1, "rollout/table"]["_value"]
    assert [row["response"] for row in table] == ["<answer>B</answer>", "|"]
    assert [row["sample"] for row in table] == ["a", "text"]
    assert table[0]["frames"]["_type"] == "trackio.image"
    assert table[1]["frames"] is None
    page = values[1, "credit/page"]
    assert page["_type"] == "trackio.html"
    (kept,) = tmp_path.rglob("*.html")
    assert kept.read_text() == "<p>credit &amp; more</p>"
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_without_trackio_it_says_how_to_install_it(monkeypatch):
    from lit_vdistill.tracking.trackio_logger import TrackioLogger

    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lit-vdistill\[trackio\]'"):
        TrackioLogger("p", "n").log_metrics({"a": 1.0}, step=0)
