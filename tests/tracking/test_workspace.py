import json
import sys

import pytest
from wandb.errors import UsageError
from wandb_workspaces.workspaces import Workspace

from lit_vdistill.__main__ import main
from lit_vdistill.tracking.workspace import CREDIT, SECTIONS, build


def test_a_workspace_is_written_without_an_account(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    out = tmp_path / "workspace.json"
    main(["workspace", "--entity", "someone", "--project", "ä project", "--out", str(out)])
    assert capsys.readouterr().out == f"{out}\n"
    sent = json.loads(out.read_text())
    assert (sent["entity"], sent["project"]) == ("someone", "ä project")
    sections = sent["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == [section.name for section in SECTIONS]
    for section, written in zip(SECTIONS, sections, strict=True):
        drawn = [p["config"] for p in written["panels"] if p["viewType"] == "Run History Line Plot"]
        assert [config["xAxis"] for config in drawn] == ["trainer/global_step"] * len(section.plots)
        assert [(c["metrics"], c["metricRegex"]) for c in drawn] == [
            (list(plot.metrics), plot.pattern) for plot in section.plots
        ]
    others = [p for s in sections for p in s["panels"] if p["viewType"] != "Run History Line Plot"]
    kinds = {panel["viewType"]: panel["config"] for panel in others}
    assert kinds.keys() == {"Media Browser", "Weave"}
    assert kinds["Media Browser"]["mediaKeys"] == [CREDIT]
    assert '"rollout/table"' in json.dumps(kinds["Weave"])


def test_without_an_account_it_says_how_to_get_in(monkeypatch, capsys):
    def refuse(view):
        raise UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(Workspace, "save", refuse)  # a test must not write to somebody's account
    with pytest.raises(SystemExit):
        main(["workspace", "--entity", "someone"])
    assert "log in by `wandb login`, or name a file by --out" in capsys.readouterr().err


def test_a_plot_is_of_names_or_of_a_pattern():
    plots = [plot for section in SECTIONS for plot in section.plots]
    assert all(bool(plot.metrics) != bool(plot.pattern) for plot in plots)
    assert [p.pattern for p in plots if p.pattern and "(?" in p.pattern] == []  # no look-around


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(ValueError, match=r"pip install 'lit-vdistill\[dashboards\]'"):
        build("someone", "a project")
