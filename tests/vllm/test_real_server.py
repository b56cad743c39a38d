"""Teacher, judge and rollouts of a real vLLM: `make test-vllm`."""

import csv
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]
PORT = 8051
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def url(world, tmp_path_factory):
    """The stage-1 student behind vLLM, for whoever asks."""
    from experiments.served_rollouts import stop
    from lit_vdistill.served.vllm_server import ENVIRONMENT

    if not Path(ENVIRONMENT).expanduser().is_dir():
        pytest.skip("no vLLM environment; make test-vllm installs one")
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    command = [sys.executable, "-m", "lit_vdistill", "serve", "--rollouts", "file"]
    command += ["--config", "configs/teacher/serve_stage1.yaml", "--port", str(PORT)]
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--media.root", str(world)],
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    opener = build_opener(ProxyHandler({}))
    try:
        while True:
            try:
                opener.open(f"{URL}/health", timeout=2.0)
                break
            except (URLError, OSError):
                assert server.poll() is None, log.read_text()[-3000:]
        yield URL
    finally:
        stop(server)


@pytest.mark.parametrize("family", ["qwen3-vl", "qwen2.5-vl"])
def test_a_served_family_draws_from_the_policy_itself(family, tmp_path):
    from experiments.served_parity import compared

    row = compared(family, tmp_path)
    assert "stopped" not in row, row
    gaps = [value for value in row.values() if isinstance(value, tuple)]
    assert len(gaps) == 4
    assert max(largest for _, largest in gaps) < 1e-4
    assert row["greedy_equal"] == row["greedy_compared"]


def test_a_pool_is_collected(url, world, tmp_path):
    from lit_vdistill.__main__ import main
    from lit_vdistill.pool.store import PoolStore

    endpoint, pool = "--teacher.init_args.endpoint", tmp_path / "pool.jsonl"
    main(
        [
            "pool", "collect", "--config", "configs/teacher/stage1_vllm.yaml",
            "--train_path", str(world / "train.jsonl"), "--pool_path", str(pool),
            "--teacher.init_args.media_root", str(world), "--max_samples", "6",
            f"{endpoint}.base_url", f"{url}/v1",
        ]
    )  # fmt: skip
    responses = PoolStore(pool).load()
    assert len(responses) == 6
    assert all(len(group) == 4 for group in responses.values())


@pytest.mark.parametrize(
    "recipe",
    [
        ["--config", "configs/grpo.yaml"],
        ["--config", "configs/rmsd.yaml", "--model.disc.warmup_max_steps", "0"],
        ["--config", "configs/visd.yaml", "--model.sampling.top_p", "0.95",
         "--model.sampling.top_k", "50"],
        ["--config", "configs/grpo.yaml", "--model.sampling.overlap", "1"],
    ],
    ids=["grpo", "rmsd", "visd", "ahead"],
)  # fmt: skip
def test_a_stage_trains_on_its_rollouts_and_asks_it_as_judge(url, tmp_path, recipe):
    """VISD's judge is the same server: its feedback is poor, the path is what is tested."""
    from lit_vdistill.__main__ import main

    more = []
    if "configs/visd.yaml" in recipe:
        endpoint = {"base_url": f"{url}/v1", "model": "stage1"}
        replies = {"max_tokens": 48, "reading": "lenient", "budget_s": 60.0}
        judge = {
            "class_path": "lit_vdistill.judge.served_judge.OpenAIJudge",
            "init_args": {"endpoint": endpoint, "replies": replies},
        }
        (tmp_path / "judge.yaml").write_text(
            yaml.safe_dump({"model": {"init_args": {"judge": judge}}})
        )
        more = ["--config", str(tmp_path / "judge.yaml")]
    run = tmp_path / "run"
    main(
        [
            "fit", *recipe, "--config", "configs/rollouts/vllm.yaml", *more,
            "--model.sampling.engine.init_args.url", url, "--run_dir", str(run),
            "--stage1_config", "null", "--model.policy.path", "experiments/stage1/student",
            "--trainer.max_steps", "3", "--trainer.val_check_interval", "3",
            "--trainer.limit_val_batches", "1", "--data.loader.batch_size", "4",
            "--data.world.train_videos", "4", "--data.world.val_videos", "1",
            "--data.world.test_videos", "1", "--data.loader.num_workers", "0",
            "--data.sources.media_root", str(tmp_path / "world"),
            "--data.sources.cache_dir", str(tmp_path / "frames"), "--trainer.logger", "false",
            "--trainer.logger+", "lit_vdistill.tracking.csv_curves.CSVCurves",
            "--trainer.logger.save_dir", str(run),
        ]
    )  # fmt: skip
    [table] = run.rglob("metrics.csv")
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("reward/total")]
    assert len(rows) == 3
    if "--model.sampling.overlap" in recipe:
        assert [float(row["rollout/age"]) for row in rows] == [0, 1, 1]
        assert max(float(row["parity/gap_max"]) for row in rows[:2]) < 1e-4
    else:
        assert max(float(row["rollout/logprob_gap_max"]) for row in rows) < 1e-4
    if more:
        assert min(float(row["judge/failures"]) for row in rows) < 1
