import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from filelock import FileLock

from experiments import cell_record, sweep, sweep_runner
from experiments.answers import Answered

MEASURED = {
    "steps": 9, "seconds": {"fit": 45.0, "answers": 9.0}, "start": {}, "before": {},
    "after": {"val": {"mean": 0.5}}, "training": {}, "curves": {}, "tokens": 0.0,
    "teacher_responses": 0, "judged_rollouts": 0.0,
}  # fmt: skip


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A sweep of two cells whose fits are counted, not made; `fails` names a value that crashes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "read_claims", list)
    monkeypatch.setattr(cell_record, "commit", lambda: "c0ffee")
    monkeypatch.setattr(sweep_runner, "measured", lambda *args: MEASURED)
    # Threads of this process would stay with the tests that follow.
    monkeypatch.setattr(sweep_runner.torch, "set_num_threads", lambda count: None)
    trainer = {"max_steps": 9}
    model = {"class_path": "A", "init_args": {"policy": {"path": "start/student"}}}
    Path("a.yaml").write_text(yaml.safe_dump({"model": model, "trainer": trainer}))
    found = {
        "name": "s", "program": "p", "method": "grid", "metric": {"name": "m", "goal": "maximize"},
        "command": ["${interpreter}", "-m", "${program}", "fit", "--config=a.yaml", "${args}"],
        "parameters": {"model.lr": {"values": [1, 2]}, "seed_everything": {"values": [0, 1]}},
    }  # fmt: skip
    Path("s.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
    state = SimpleNamespace(fitted=[], fails="none", threads=set())

    def run(words, stdout, stderr, env, check):
        state.fitted.append(" ".join(words[3:]))
        state.threads.add(env["OMP_NUM_THREADS"])
        stdout.write("one\nits last line\n")
        return SimpleNamespace(returncode=int(state.fails in words))

    monkeypatch.setattr(sweep_runner.subprocess, "run", run)

    def command(*args, file="s.yaml"):
        state.fitted.clear()
        monkeypatch.setattr(sys, "argv", ["sweep", file, "--results", "r", *args])
        sweep.main()
        return [words.partition(" --seed")[0] for words in state.fitted]

    state.command = command
    return state


def test_cells_are_run_once_and_all_of_a_seed_before_the_next(small):
    done = ["fit --config=a.yaml --model.lr=1", "fit --config=a.yaml --model.lr=2"] * 2
    assert small.command("--threads", "3") == done
    assert "--seed_everything 1 --run_dir runs/sweeps/" in small.fitted[-1]
    assert small.threads == {"3"}
    shutil.rmtree("runs")
    assert small.command() == []
    assert not Path("runs").exists()  # what has a result needs no folder
    names = sorted(path.name for path in Path("r/s").glob("*"))
    assert names == ["lr-1-0.json", "lr-1-1.json", "lr-2-0.json", "lr-2-1.json"]
    record = json.loads(Path("r/s/lr-2-1.json").read_text())
    assert (record["commit"], record["threads"], record["stage"]) == ("c0ffee", 3, "A")
    assert record["arguments"] == ["--config=a.yaml", "--model.lr=2"]
    assert set(record["versions"]) >= {"python", "torch"}


def test_what_is_asked_for_alone_and_fresh_seeds(small):
    assert len(small.command("--only", "lr-2", "--seeds", "2", "--first_seed", "5")) == 2
    assert sorted(p.name for p in Path("r/s").glob("*")) == ["lr-2-5.json", "lr-2-6.json"]
    with pytest.raises(SystemExit, match=r"no cells \['x'\]; it has \['lr-1', 'lr-2'\]"):
        small.command("--only", "x")


def test_a_changed_value_is_run_again(small):
    small.command()
    Path("a.yaml").write_text(Path("a.yaml").read_text() + "more: 1\n")
    assert len(small.command()) == 4


def test_a_cell_that_another_sweep_has_run_counts(small):
    small.command()
    other = Path("s.yaml").read_text().replace("name: s", "name: t").replace("- 1\n", "- 3\n", 1)
    Path("t.yaml").write_text(other)
    assert small.command(file="t.yaml") == ["fit --config=a.yaml --model.lr=3"] * 2


def test_a_crashed_cell_is_named_and_run_again_by_a_flag(small, capsys):
    small.fails = "--model.lr=1"
    with pytest.raises(SystemExit, match=r"2 of 4 have crashed: \['lr-1-0', 'lr-1-1'\]"):
        small.command()
    assert len(small.fitted) == 4
    assert "lr-1-0 has crashed:\n    one\n    its last line" in capsys.readouterr().err
    small.fails = "none"
    with pytest.raises(SystemExit, match="--rerun-crashed"):
        small.command()
    assert small.fitted == []
    assert len(small.command("--rerun-crashed")) == 2
    assert small.command() == []


def test_a_cell_that_another_process_runs_is_left_to_it(small, capsys):
    first, *_ = sweep.jobs_of(sweep.read_sweep(Path("s.yaml")), (0,), None)
    home = Path("runs/sweeps") / f"{first.key}-0"
    home.mkdir(parents=True)
    with FileLock(home / "cell.lock"):
        assert small.command("--seeds", "1") == ["fit --config=a.yaml --model.lr=2"]
    assert "1 of 2: lr-1-0 is run by another process" in capsys.readouterr().err
    assert small.command("--seeds", "1") == ["fit --config=a.yaml --model.lr=1"]


def test_a_cell_that_another_process_saw_crash_meanwhile_is_not_run_again(small, tmp_path):
    jobs = sweep.jobs_of(sweep.read_sweep(Path("s.yaml")), (0,), None)
    runner = sweep.Runner(None, ("val",), tmp_path / "runs", tmp_path / "r", 1, began=0.0)
    for job in jobs:
        runner.home(job).mkdir(parents=True)
        (runner.home(job) / "crashed").write_text("")
        (runner.home(job) / "log.txt").write_text("")
    assert [runner.state(job, {}) for job in jobs] == ["crashed now"] * 2
    assert sweep.run_all(runner, jobs, rerun_crashed=True) == jobs
    assert small.fitted == []


def test_a_stored_cell_is_run_again_and_compared(small, capsys, monkeypatch):
    small.command("--only", "lr-1")
    stored = Path("r/s/lr-1-0.json").read_bytes()
    with pytest.raises(SystemExit) as ended:
        small.command("--only", "lr-1", "--again")
    assert ended.value.code == 0
    assert len(small.fitted) == 2
    assert "runs/sweeps/again/" in small.fitted[0]
    assert "lr-1-0: 8 of 8 figures are the same to the digit\n" in capsys.readouterr().out
    assert Path("r/s/lr-1-0.json").read_bytes() == stored

    other = MEASURED | {"after": {"val": {"mean": 0.5000001}}, "curves": {"c": [[1, 2.0]]}}
    monkeypatch.setattr(sweep_runner, "measured", lambda *args: other)
    with pytest.raises(SystemExit) as ended:
        small.command("--only", "lr-1", "--seeds", "1", "--again")
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "lr-1-0: 7 of 8 figures are the same to the digit; not after.val.mean; one of" in told
    assert "alone has curves.c[0][0], curves.c[0][1]" in told
    for options, why in (["--only", "lr-2"], "lr-2-0 has no result"), (
        ["--only", "lr-1", "--threads", "2"], "lr-1-0 took 1 threads: --threads"
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=f"error: --again: {why}"):
            small.command(*options, "--again")
    with FileLock("runs/sweeps/again.lock"), pytest.raises(SystemExit, match="another process"):
        small.command("--only", "lr-1", "--seeds", "1", "--again")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--again", "--workers", "2"], "--again compares cells one after another"),
        (["--first_seed", "5"], "--first_seed says where --seeds N begins"),
        (["--seeds", "0"], "expected 1 or more"),
        (["--workers", "-1"], "expected 1 or more"),
        (["--threads", "0"], "expected 1 or more"),
    ],
)
def test_options_that_would_do_nothing_are_refused(small, capsys, options, why):
    with pytest.raises(SystemExit) as ended:
        small.command(*options)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err
    assert small.fitted == []


def test_a_cell_that_is_stopped_leaves_no_result(small, monkeypatch):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_runner, "measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        small.command()
    assert not Path("r").exists()
    monkeypatch.setattr(sweep_runner, "measured", lambda *args: MEASURED)
    small.command()
    assert len(list(Path("r/s").glob("*.json"))) == 4


def test_the_list_adds_up_hours_measured_or_estimated(small, capsys):
    small.command("--list")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[2:] == ["to", "run", "~0.01", "h"]  # nine steps of six seconds
    assert lines[-1].startswith("0.1 hours to run (~ is an estimate: 6 s a step")
    small.command("--only", "lr-1")
    small.command("--list")
    lines = capsys.readouterr().out.splitlines()
    assert "done (s/lr-1)" in lines[0]
    assert lines[-1] == "0.0 hours to run"
    assert small.fitted == []


def test_what_cells_start_from_is_fitted_once_with_one_seed(small):
    text = Path("a.yaml").read_text()
    Path("a.yaml").write_text(text + "stage1_config: [[start, configs/b.yaml]]\n")
    Path("configs").mkdir()
    Path("configs/b.yaml").write_text("{}")
    small.command("--seeds", "1", "--first_seed", "7", "--only", "lr-1")
    assert small.fitted[0] == "fit --config configs/b.yaml --run_dir start --seed_everything 0"
    Path("start/student").mkdir(parents=True)
    assert len(small.command("--seeds", "1", "--first_seed", "8", "--only", "lr-1")) == 1


def test_a_result_has_the_runs_alarms(tmp_path):
    assert cell_record.alarms_of(tmp_path) is None
    (tmp_path / "health.jsonl").touch()
    assert cell_record.alarms_of(tmp_path) == []
    (tmp_path / "health.jsonl").write_text('{"step": 34, "alarm": "kl", "metric": "kl/ref"}\n')
    assert cell_record.alarms_of(tmp_path) == ["kl in step 34"]


def test_a_result_has_means_by_task_curves_and_what_it_took(tmp_path):
    rows = [f"{step},{step / 100},{'nan' if step else 2.0}" for step in range(60)]
    (tmp_path / "csv").mkdir()
    text = "step,reward/total,disc/margin,val/reward\n" + "".join(f"{row},\n" for row in rows)
    (tmp_path / "csv" / "metrics.csv").write_text(text + "59,,,0.5\n")
    logged = cell_record.training_values(tmp_path)
    assert set(logged) == {"reward/total", "disc/margin"}
    assert logged["disc/margin"] == ([0], [2.0])
    curve = cell_record.thinned(*logged["reward/total"], 60)
    assert (len(curve), curve[0], curve[-1]) == (30, [2, 0.005], [60, 0.585])
    assert cell_record.final(logged["reward/total"][1]) == pytest.approx(0.565)
    nan = float("nan")
    answers = [
        Answered("a", "mcq", "easy", "v", 1.0, 0.5, nan, 1.0),
        Answered("b", "open_ended", "easy", "v", 0.0, 0.25, 0.75, 1.0),
    ]
    found = cell_record.means(answers)
    assert (found["greedy"], found["mean"], found["reward"]) == (0.5, 0.375, 0.75)
    assert (found["mean/mcq"], found["mean/closed"], found["mean/open"]) == (0.5, 0.5, 0.25)
    assert "reward/mcq" not in found


def test_teacher_responses_are_counted_where_a_pool_is_matched():
    given = {"disc": {"reward_weight": 0.4}, "matching": {"pool_size": 4}}
    config = {
        "model": {"class_path": "lit_vdistill.stages.RMSDModule", "init_args": given},
        "trainer": {"max_steps": 150},
        "data": {"init_args": {"loader": {"batch_size": 24}}},
    }
    assert cell_record.teacher_responses(config, {}) == 150 * 24 * 4
    given["matching"]["pool_size_if_unequal"] = 8
    logged = {"match/responses": ([0, 1], [2.0, 4.5])}
    assert cell_record.teacher_responses(config, logged) == 24 * 6.5
    given["disc"]["reward_weight"] = 0.0
    assert cell_record.teacher_responses(config, {}) == 0
    config["model"] = {"class_path": "lit_vdistill.stages.SFTModule", "init_args": {}}
    assert cell_record.teacher_responses(config, {}) == 150 * 24
    config["model"] = {"class_path": "lit_vdistill.stages.OnPolicyModule", "init_args": {}}
    assert cell_record.teacher_responses(config, {}) == 0


def test_tokens_of_steps_that_are_not_logged_count_too():
    logged = {"step/tokens": ([9, 19], [100.0, 140.0])}
    assert cell_record.total_tokens(logged, 20) == 2400.0
    assert cell_record.total_tokens(logged, 2) == 240.0
    assert cell_record.total_tokens({}, 20) == 0.0
