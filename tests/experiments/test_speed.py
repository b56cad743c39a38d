"""The benchmark compares like with like, and runs; how fast it is, is not tested."""

import json

import pytest
import torch

from experiments.speed import contestants, report
from experiments.speed.__main__ import grid_case, quick_case
from experiments.speed.measure import peak_bytes
from experiments.speed.networks import build_arena


@pytest.fixture(scope="module")
def arena():
    return build_arena(100, 2, 5)


def test_contestants_of_training_compute_the_same_gradients(arena):
    runs = contestants.training(arena)
    gradients = {}
    for name, run in runs.items():
        run()
        model = arena.stock if name == "dense" else arena.ours
        gradients[name] = {key: p.grad.clone() for key, p in model.named_parameters()}
    for name in ("dense", "dense, video once"):
        for key, gradient in gradients["shared"].items():
            error = (gradients[name][key] - gradient).norm() / gradient.norm().clamp(min=1e-8)
            assert error < 1e-4, (name, key)


def test_contestants_of_rollouts_sample_as_many_tokens(arena):
    runs = contestants.rollout(arena)
    ((*rollouts,),) = runs["shared"]()
    assert [len(rollout.completion_ids) for rollout in rollouts] == [5, 5]
    assert runs["stock"]().shape == (2, 5)


def test_peak_memory_counts_what_is_alive_at_once():
    def run():
        for _ in range(3):
            torch.zeros(2**18)  # a MiB, freed at once
        kept = [torch.zeros(2**18) for _ in range(4)]
        return len(kept)

    assert 4.0 <= peak_bytes(run) / 2**20 < 5.0


@pytest.mark.slow
def test_every_case_runs_and_is_reported(arena, tmp_path):
    ratios = quick_case(arena, rounds=1)
    expected = {"train_shared_vs_dense", "rollout_vs_stock", "step_vs_dense", "step_vs_trl"}
    assert {*expected, "peak_memory_vs_dense"} <= ratios.keys()
    assert all(value > 0 for value in ratios.values())
    assert "step_vs_trl" in report.quick_table(ratios)
    report.write(tmp_path, ratios, [grid_case(arena, rounds=1)])
    assert json.loads((tmp_path / "quick.json").read_text())["device"]
    assert (tmp_path / "grid.csv").read_text().count("\n") == 2
    assert (tmp_path / "speed.png").stat().st_size > 10_000
