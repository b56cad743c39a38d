"""The benchmark compares like with like, and runs; how fast it is, is not tested."""

import json

import pytest
import torch

from experiments.speed import arithmetic, contestants, report, steps
from experiments.speed.cases import compare, grid_case, questions, quick_case
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


def test_contestants_of_questions_draw_the_same(arena):
    drawn = [run() for run in contestants.questions(arena).values()]
    ids = [[[r.completion_ids for r in group] for group in groups] for groups in drawn]
    assert ids[0] == ids[1] == ids[2]
    assert {len(completion) for group in ids[0] for completion in group} == {5}


def test_peak_memory_counts_what_is_alive_at_once():
    def run():
        for _ in range(3):
            torch.zeros(2**18)  # a MiB, freed at once
        kept = [torch.zeros(2**18) for _ in range(4)]
        return len(kept)

    assert 4.0 <= peak_bytes(run) / 2**20 < 5.0


def test_flops_of_training_are_those_of_its_products_and_attention(arena):
    left, right = torch.randn(5, 7, requires_grad=True), torch.randn(7, 3)
    assert arithmetic.flops(lambda: (left @ right).sum().backward()) == 2 * (2 * 5 * 7 * 3)
    q = torch.randn(1, 2, 16, 8, requires_grad=True)

    def attend():
        torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward()

    assert arithmetic.flops(attend) == (2 + 5) * 2 * (2 * 16 * 16 * 8) // 2


@pytest.mark.parametrize("make", [steps.grpo, steps.rmsd, steps.visd, steps.opd])
def test_every_stage_takes_steps(arena, make):
    fit = make(arena).of(2)
    times = fit()
    assert len(times) == 2
    assert min(times) > 0
    assert fit.tokens > len(arena.prompt.input_ids) + arena.num_rollouts
    left = fit.stage.last_step
    held = [(prompt.pixels, prompt.features) for prompt in left.experience.batch.prompts]
    held += [(getattr(method, "part", None), None) for method in left.methods]
    assert set(held) == {(None, None)}, "a step leaves tensors of its prompts behind"
    if make is steps.visd:
        assert fit.stage.last_step.advantages.all()  # or else its teacher is not asked


def test_a_window_goes_through_in_pieces_of_one_bound():
    fits = {count: steps.window(count, 3) for count in (8, 16)}
    assert [len(fit()) for fit in fits.values()] == [1, 1]
    assert [fit.num_pieces for fit in fits.values()] == [1, 2]
    assert fits[8].stage.max_tokens == fits[16].stage.max_tokens
    assert fits[16].stage.window.pieces == (tuple(range(8)), tuple(range(8, 16)))
    assert fits[16].input_bytes == 2 * fits[8].input_bytes > 0


@pytest.mark.matrix
def test_every_case_runs_and_is_reported(arena, tmp_path):
    figures = quick_case(arena, rounds=1, windows=(8, 16))
    expected = {"train_shared_vs_dense", "rollout_vs_stock", "step_vs_dense", "step_vs_trl"}
    expected |= {"grpo_steady_step_vs_trl", "seconds/grpo_steady_step", "peak_memory_vs_dense"}
    expected |= {"train_share_of_matmul_rate", "seconds/visd_steady_step", "peak_mib/window_16"}
    expected |= {"window_peak_memory_16_vs_8", "window_tokens_per_s_16_vs_8"}
    assert expected <= figures.keys()
    assert all(value > 0 for value in figures.values())
    assert "step_vs_trl" in report.quick_table(figures)
    report.write(tmp_path, figures, [grid_case(arena, rounds=1)])
    assert json.loads((tmp_path / "quick.json").read_text())["device"]
    assert (tmp_path / "grid.csv").read_text().count("\n") == 2
    assert (tmp_path / "steps.csv").read_text().count("\n") == 6
    assert (tmp_path / "speed.png").stat().st_size > 10_000


@pytest.mark.matrix
def test_questions_are_reported(arena):
    figures = questions([arena], rounds=1)
    assert figures["questions_2_vs_one_by_one"] > 0
    assert "seconds/questions_2_nested" in report.quick_table(figures)


@pytest.mark.matrix
def test_another_size_is_compared_alike():
    arena = build_arena(100, 2, 3, "tiny/qwen3-vl/4m")
    assert arena.ours.config.get_text_config().hidden_size == 256
    figures = compare(arena, rounds=1)
    assert all(value > 0 for value in figures.values())


def test_another_family_is_compared_alike(monkeypatch, tmp_path):
    from experiments.speed import __main__ as command

    paths = []
    monkeypatch.setattr(command, "build_arena", lambda *case: paths.append(case[-1]))
    monkeypatch.setattr(command.cases, "compare", lambda arena, rounds: {"prompt_tokens": 754})
    given = ["speed", "--family", "qwen3.5", "--folder", str(tmp_path)]
    monkeypatch.setattr("sys.argv", given)
    command.main()
    assert paths == ["tiny/qwen3.5/1m"]
    assert (tmp_path / "quick_qwen3.5.json").is_file()
