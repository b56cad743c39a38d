import json
import re

import pytest

from lit_vdistill.tracking.run_folder import Series, read_training_run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("loss,step\n1.0,0\n")
    return tmp_path


def test_an_older_file_counts_up_to_where_the_next_one_begins(folder):
    """A run that was resumed at step 2, and one that began anew in the same folder before."""
    rows = {
        "metrics.1": "loss,step\n9,0\n9,1\n9,2\n9,3\n9,4\n9,5\n",
        "metrics.2": "loss,old,step\n1,5,0\n2,5,1\n3,5,2\n",
        "metrics.10": "loss,step\n4,2\n5,3\n",
        "metrics": "loss,val/score,step\n6,,3\n,0.5,3\nnan,,4\n",
    }
    for name, text in rows.items():
        (folder / "csv" / f"{name}.csv").write_text(text)
    run = read_training_run(str(folder), "a")
    assert run.curves == {
        "loss": Series([0, 1, 2, 3, 4], [1.0, 2.0, 4.0, 6.0, None]),
        "old": Series([0, 1], [5.0, 5.0]),
        "val/score": Series([3], [0.5]),
    }
    assert run.num_steps == 5


def test_a_line_that_a_crash_cut_off_is_left_out_and_said(folder):
    (folder / "csv" / "metrics.csv").write_text("loss,step\n1.5,0\n2.25,1\n3.1")
    run = read_training_run(str(folder), "a")
    assert run.curves["loss"] == Series([0, 1], [1.5, 2.25])
    assert "metrics.csv: its last line has no end" in run.missing[0]


def test_what_was_not_written_is_said_with_who_writes_it(folder):
    run = read_training_run(str(folder), "a")
    assert (run.alarms, run.card, run.rollouts, run.scores) == (None, None, (), {})
    told = "; ".join(run.missing)
    writers = {"summary.json": "RunSummary", "health.jsonl": "TrainingHealth",
               "rollouts.jsonl": "RolloutTable", "run_card.json": "RunCard"}  # fmt: skip
    for file, writer in writers.items():
        assert f"{file} is not there; callbacks.{writer} writes it" in told
    (folder / "health.jsonl").write_text("")
    assert read_training_run(str(folder), "a").alarms == []


def test_scores_that_are_no_number_are_not_known(folder):
    found = {"seconds": 2.5, "before": {"step": 0, "tIoU": float("nan")}, "samples": {}}
    (folder / "summary.json").write_text(json.dumps(found))
    run = read_training_run(str(folder), "a")
    assert (run.seconds, run.scores) == (2.5, {"before": {"step": 0, "tIoU": None}})


ROW = {"step": 0, "sample": "s", "task": "mcq", "question": "q", "answer": "A", "response": "r",
       "reward/total": 1.0, "advantage": 0.0}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("csv/metrics.csv", "", "metrics.csv, line 1: expected a column 'step', got []"),
        ("csv/metrics.csv", "loss\n1\n", "expected a column 'step', got ['loss']"),
        ("csv/metrics.csv", "loss,step\n1\n", "line 2: expected 2 columns, got 1"),
        ("csv/metrics.csv", "loss,step\nx,0\n", "column 'loss': expected a number, got 'x'"),
        ("csv/metrics.csv", "loss,step\n1,0.5\n", "line 2, column 'step': expected a count"),
        ("csv/metrics.csv", "loss,step\n1,inf\n", "line 2, column 'step': expected a count"),
        ("csv/metrics.csv", "loss,step\n1,-1\n", "line 2, column 'step': expected a count"),
        ("summary.json", "[" * 100_000, "summary.json: not JSON"),
        ("summary.json", "[]", "summary.json: expected an object, got list"),
        ("summary.json", '{"seconds": "1"}', "'seconds' must be a number, got '1'"),
        ("summary.json", '{"after": {"score": "1"}}', "'after' must be numbers by metric"),
        ("run_card.json", "{", "run_card.json: not JSON"),
        ("config.yaml", "a: [", "config.yaml: not YAML"),
        ("config.yaml", "- a\n", "config.yaml: expected a mapping, got list"),
        ("health.jsonl", "[]\n", "health.jsonl, line 1: expected an object, got list"),
        ("health.jsonl", '{"alarm": 3}\n', "health.jsonl, line 1: 'alarm' must be a text, got 3"),
        ("rollouts.jsonl", json.dumps(ROW | {"advantage": "x"}) + "\n",
         "rollouts.jsonl, line 1: 'advantage' must be a number, got 'x'"),
        ("rollouts.jsonl", json.dumps(ROW | {"step": None}) + "\n",
         "rollouts.jsonl, line 1: 'step' must be a count, got None"),
        ("credit/1.json", "{}", "1.json: 'sample' must be a text, got None"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named(folder, name, text, told):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(told)):
        read_training_run(str(folder), "a")


def test_a_folder_without_curves_is_none_of_a_run(tmp_path):
    with pytest.raises(ValueError, match=r"metrics\.csv does not exist; expected the folder of a"):
        read_training_run(str(tmp_path), "a")
