"""Two processes with unlike prompts draw from sharded weights what they draw from whole ones."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("sharding", "family"),
    [
        ("fsdp2", "qwen3-vl"),
        pytest.param("zero3", "qwen3-vl", marks=pytest.mark.matrix),
        pytest.param("zero3", "qwen2.5-vl", marks=pytest.mark.matrix),
    ],
)
def test_sharded_weights_draw_what_whole_ones_do(tmp_path, sharding, family):
    command = [sys.executable, "tests/rollouts/sharded_generate.py", sharding, family]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "PYTHONPATH": "."}
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert all((tmp_path / f"{rank}.json").exists() for rank in (0, 1)), errors
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        drawn, loss, norm = found["whole"]
        assert (len(drawn["ids"]), found["turns"]) == [(1, 1), (4, 2)][rank]
        for one, its_loss, its_norm in found["gathered"] + found["in_step"]:
            assert one["ids"] == drawn["ids"]
            assert (its_loss, its_norm) == pytest.approx((loss, norm), rel=1e-4)
        gathered, in_step = (found[name][-1][0]["num_gathers"] for name in ("gathered", "in_step"))
        assert found["shorter"][0]["num_gathers"] == gathered  # not again for a token
        assert in_step > 3 * gathered
