import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_vdistill.readers.records import read_records, write_records
from tests.evaluation.small_sets import NAMES, small_set

ROOT = Path(__file__).parents[2]
STUDENT = str(ROOT / "experiments/stage1/student")
SMALL = [
    "--frames.max_frames=4", "--frames.fps=null", "--frames.max_pixels=9216",
    "--sampling.max_completion_tokens=24", "--trainer.accelerator=cpu", "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
]  # fmt: skip


def command(name, root, folder, *more):
    config = ROOT / f"configs/benchmarks/{name.partition('/')[0]}.yaml"
    given = ["--config", str(config), "--student", STUDENT, "--data_root", str(root)]
    if name == "world":
        given.append("--benchmark.world=null")
    if "/" in name:
        given.append(f"--benchmark.split={name.partition('/')[2]}")
    return [*given, "--run_dir", str(folder), "--cache_dir=null", *SMALL, *more]


@pytest.fixture
def evaluate(monkeypatch):
    """`evaluate run` in this process; what it leaves."""
    from lit_vdistill.cli import evaluation

    def run(name, root, folder, *more):
        args = command(name, root, folder, *more)
        monkeypatch.setattr(sys, "argv", ["lit-vdistill", "evaluate", "run", *args])
        evaluation.run(args)
        return left(folder)

    return run


def left(folder):
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").open()]
    return rows, json.loads((folder / "scores.json").read_text())


@pytest.fixture(scope="module")
def small_world(tmp_path_factory):
    root = tmp_path_factory.mktemp("set") / "world"
    small_set("world", root)
    return root


def test_the_worlds_questions_are_asked_and_scored(small_world, tmp_path, evaluate):
    rows, scores = evaluate("world", small_world, tmp_path, "--num_samples=2")
    samples, _ = read_records(small_world / "test.jsonl")
    assert [row["id"] for row in rows] == [sample.id for sample in samples]
    assert scores["questions"] == len(samples) == 27
    assert scores["videos"] == 3
    assert scores["scores"]["score"]["items"] == 27
    assert scores["groups"]["task/mcq"]["score"]["items"] == 3
    assert scores["pass_at_k"]["k"] == [1, 2]
    assert scores["pass_at_k"]["questions"] == 27 - 2 * 3  # but the open ones
    row = rows[0]
    assert row["question"] in row["prompt"]
    assert row["prompt"].count("<|video_pad|>") <= len(row["frame_times_s"]) == 4
    assert len(row["sampled"]) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        ".lock", "items.jsonl", "predictions.jsonl", "run.json", "scores.json",
    ]  # fmt: skip


def test_the_score_is_that_of_the_test_command(small_world, tmp_path, evaluate, monkeypatch):
    """One student, one split, two ways to ask."""
    from lit_vdistill.cli import training

    _, scores = evaluate(
        "world", small_world, tmp_path / "a", "--sampling.max_completion_tokens=96"
    )
    args = [
        "test", "--config", "configs/rmsd.yaml", "--stage1_config=null", "--run_dir",
        str(tmp_path / "b"), "--data.world=null", "--data.sources.media_root", str(small_world),
        "--data.sources.cache_dir=null", "--data.frames.max_frames=4", "--trainer.logger=false",
        "--model.validation.num_samples=0", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["lit-vdistill", *args])
    training.run(args)
    told = json.loads((tmp_path / "b" / "test.json").read_text())["scores"]
    assert scores["scores"]["score"]["value"] == pytest.approx(told["score"], abs=1e-6)


def test_a_server_with_the_students_weights_answers_the_same(small_world, tmp_path, evaluate):
    from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
    from tests.rollouts.served_stand_in import StandIn

    _, in_process = evaluate("world", small_world, tmp_path / "a")
    model = load_model(VLMConfig("tiny/qwen3-vl"))  # until it is sent the student's weights
    server = StandIn(model, load_processor(STUDENT))
    engine = "--sampling.engine"
    try:
        rows, served = evaluate(
            "world", small_world, tmp_path / "b",
            f"{engine}=lit_vdistill.rollouts.vllm_engine.VLLMRolloutEngine",
            f"{engine}.init_args.url={server.url}", f"{engine}.init_args.patience_s=60",
        )  # fmt: skip
    finally:
        server.stop()
    assert served == in_process
    told = json.loads((tmp_path / "b" / "run.json").read_text())["engine"]
    assert told["init_args"]["url"] == server.url
    assert len(rows) == 27


def test_what_is_broken_stays_in_the_denominator(small_world, tmp_path, evaluate, caplog):
    root = tmp_path / "root"
    (root / "videos").mkdir(parents=True)
    samples, _ = read_records(small_world / "test.jsonl")
    write_records(root / "test.jsonl", samples)
    first, second, third = sorted({str(sample.media) for sample in samples})
    (root / first).write_bytes((small_world / first).read_bytes())
    (root / second).write_bytes((small_world / second).read_bytes()[:2000])
    rows, scores = evaluate("world", root, tmp_path / "run")
    assert "1 of 3 media are missing" in caplog.text
    assert third in caplog.text
    assert len(rows) == scores["scores"]["score"]["items"] == 27
    assert scores["problems"]["unasked"] == 18
    assert [row["response"] is None for row in rows] == [row["media"] != first for row in rows]
    (root / third).write_bytes((small_world / third).read_bytes())
    _, scores = evaluate("world", root, tmp_path / "run")
    assert scores["problems"]["unasked"] == 9


def test_a_wrong_root_and_broken_records_are_refused(small_world, tmp_path, evaluate, capsys):
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(SystemExit):
        evaluate("world", root, tmp_path / "run")
    assert "test.jsonl does not exist" in capsys.readouterr().err
    (root / "test.jsonl").write_bytes((small_world / "test.jsonl").read_bytes())
    with pytest.raises(SystemExit):
        evaluate("world", root, tmp_path / "run")
    assert "not one of 3 media is there" in capsys.readouterr().err
    with (root / "test.jsonl").open("ab") as file:
        file.write(b'{"id": "x", "task": "mcq", "question": "Q", "answer": "Z"}\n')
    with pytest.raises(SystemExit):
        evaluate("world", root, tmp_path / "run")
    told = capsys.readouterr().err
    assert "1 records below" in told
    assert "must be the letter of one of the options" in told


def test_other_settings_are_refused_and_named(small_world, tmp_path, evaluate, capsys):
    evaluate("world", small_world, tmp_path, "--limit=3")
    with pytest.raises(SystemExit):
        evaluate("world", small_world, tmp_path, "--limit=4", "--frames.max_frames=2")
    told = capsys.readouterr().err
    assert "frames.max_frames: 4 before, 2 now" in told
    assert "limit: 3 before, 4 now" in told
    rows, scores = evaluate("world", small_world, tmp_path, "--limit=4", "--overwrite")
    assert len(rows) == 4
    assert "Of the first 4 questions alone." in scores["remarks"]


def test_a_limit_leaves_items_whole(tmp_path, evaluate):
    small_set("vstar", tmp_path / "set")
    rows, scores = evaluate("vstar", tmp_path / "set", tmp_path / "run", "--limit=7")
    assert len(rows) == 10
    assert scores["scores"]["mAM"]["items"] == 2


def test_blind_questions_have_no_medium_and_stand_beside(small_world, tmp_path, evaluate, capsys):
    rows, _ = evaluate("world", small_world, tmp_path / "blind", "--blind")
    assert {row["media"] for row in rows} == {None}
    assert not any("video_pad" in row["prompt"] for row in rows)
    _, scores = evaluate(
        "world", small_world, tmp_path / "run", "--blind_run", str(tmp_path / "blind")
    )
    assert set(scores["blind"]["scores"]) == set(scores["scores"])
    assert scores["videos"] == 3
    assert "blind" in capsys.readouterr().out


@pytest.mark.matrix
@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_by_one_command(name, tmp_path, evaluate):
    small_set(name, tmp_path / "set")
    rows, scores = evaluate(name, tmp_path / "set", tmp_path / "run")
    assert len(rows) == scores["questions"] > 0
    assert scores["scores"][scores["headline"]]["value"] >= 0
    assert scores["problems"].get("unasked", 0) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["benchmark"]["class_path"]


@pytest.mark.matrix
def test_killed_at_random_and_gone_on_it_finds_the_same(small_world, tmp_path, evaluate):
    _, whole = evaluate("world", small_world, tmp_path / "whole", "--num_samples=4")
    args = command(
        "world", small_world, tmp_path / "run", "--num_samples=4", "--loader.batch_size=1"
    )
    line = [sys.executable, "-m", "lit_vdistill", "evaluate", "run", *args]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    rng, part = random.Random(time.time_ns()), tmp_path / "run/predictions.part0.jsonl"
    killed = 0
    for _ in range(3):
        process = subprocess.Popen(line, cwd=ROOT, env=environment)
        before = part.stat().st_size if part.exists() else 0
        while process.poll() is None and (not part.exists() or part.stat().st_size <= before):
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 1
    subprocess.run(line, cwd=ROOT, env=environment, check=True)
    rows, found = left(tmp_path / "run")
    assert len(rows) == len({row["id"] for row in rows}) == 27
    assert found == whole


@pytest.mark.matrix
def test_two_processes_find_what_one_does(small_world, tmp_path, evaluate):
    _, one = evaluate("world", small_world, tmp_path / "one")
    more = ["--trainer.devices=2", "--trainer.strategy=ddp", "--loader.batch_size=4"]
    args = command("world", small_world, tmp_path / "two", *more)
    line = [sys.executable, "-m", "lit_vdistill", "evaluate", "run", *args]
    subprocess.run(line, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    rows, two = left(tmp_path / "two")
    assert [row["id"] for row in rows] == [
        s.id for s in read_records(small_world / "test.jsonl")[0]
    ]
    assert two == one
