import json
import subprocess
import sys

import pytest

from lit_vdistill.evaluation import tools
from lit_vdistill.evaluation.scoring import score_run
from lit_vdistill.readers.records import write_records
from lit_vdistill.types import Evidence
from tests.evaluation.toy import Toy, write_run


def test_tools_import_no_torch():
    code = "import sys, lit_vdistill.evaluation.tools; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_answers_are_scored_again_as_the_run_says_or_otherwise(tmp_path, make_sample, capsys):
    run = write_run(tmp_path / "a", make_sample, ["B", "C", "B", None], sampled=["BB"] * 4)
    tools.score(str(run))
    told = capsys.readouterr().out
    assert "accuracy" in told
    assert "0.500" in told
    assert "1 × unasked; it stays in the denominator" in told
    assert "pass@1 0.750, pass@2 0.750" in told
    tools.score(str(run), Toy(is_paired=True))
    assert json.loads((run / "scores.json").read_text())["scores"]["accuracy"]["value"] == 0
    with pytest.raises(SystemExit, match="error: .*no run of"):
        tools.score(str(tmp_path))


def test_a_run_of_an_unknown_benchmark_is_named(tmp_path, make_sample):
    run = write_run(tmp_path / "a", make_sample, ["B"])
    told = json.loads((run / "run.json").read_text())
    told["benchmark"]["class_path"] = "tests.evaluation.toy.Toy2"
    (run / "run.json").write_text(json.dumps(told))
    with pytest.raises(SystemExit, match="error: benchmark .*Toy2"):
        tools.score(str(run))


def test_a_comparison_is_printed_and_written(tmp_path, make_sample, capsys):
    runs = []
    for name, letters in (("a", "BCCB"), ("b", "BBBB")):
        runs.append(str(write_run(tmp_path / name, make_sample, letters, student=name)))
        score_run(tmp_path / name, Toy())
    tools.compare(runs)
    told = capsys.readouterr().out
    assert (tmp_path / "b" / "compare.md").read_text() in told
    assert json.loads((tmp_path / "b" / "compare.json").read_text())["ties"] == 2
    with pytest.raises(SystemExit, match="expected two folders, got 1"):
        tools.compare(runs[:1])
    with pytest.raises(SystemExit, match="error: .*not scored"):
        tools.compare([runs[0], str(tmp_path)])


def test_what_is_missing_is_named_with_its_size_and_source(tmp_path, make_sample, capsys):
    with pytest.raises(SystemExit) as ended:
        tools.check(Toy(), str(tmp_path))
    assert ended.value.code == 1
    assert "missing: " in capsys.readouterr().out
    samples = [make_sample(id=f"q{i}", media=f"{i}.mp4", evidence=Evidence()) for i in range(2)]
    write_records(tmp_path / "test.jsonl", samples)
    (tmp_path / "0.mp4").write_bytes(b"")
    with pytest.raises(SystemExit):
        tools.check(Toy(), str(tmp_path))
    assert "2 questions about 2 media; 1 media missing" in capsys.readouterr().out
    (tmp_path / "1.mp4").write_bytes(b"")
    tools.check(Toy(), str(tmp_path))
    assert capsys.readouterr().out.endswith("toy: all of it is there\n")


def test_runs_stand_one_behind_another_on_a_command_line(tmp_path, make_sample, capsys):
    from lit_vdistill.__main__ import main

    for name in ("a", "b, [c]"):
        score_run(write_run(tmp_path / name, make_sample, ["B", "C"], student=name), Toy())
    runs = [str(tmp_path / "a"), str(tmp_path / "b, [c]")]
    main(["evaluate", "compare", "--runs", *runs, "--score", "accuracy", "--folder", str(tmp_path)])
    assert "written to" in capsys.readouterr().out
    assert json.loads((tmp_path / "compare.json").read_text())["runs"] == runs
