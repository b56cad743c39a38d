from pathlib import Path

import pytest

from lit_vdistill.tracking.run_curves import NUM_POINTS, cells_of, curve_sections, unshown
from lit_vdistill.tracking.run_folder import Series, TrainingRun
from lit_vdistill.tracking.run_tables import settings_of


def run_of(name, curves=(), config=()):
    found = {key: Series(range(len(values)), values) for key, values in dict(curves).items()}
    return TrainingRun(name, Path(name), found, dict(config), {}, None, None, None, (), (), ())


def drawn(monkeypatch, runs, by="run"):
    """The curves of each chart, by its title."""
    found = {}

    def lines(title, x_name, curves):
        found[title] = curves
        return real(title, x_name, curves)

    from lit_vdistill.tracking import run_curves

    real = run_curves.lines
    monkeypatch.setattr(run_curves, "lines", lines)
    return curve_sections(runs, by), found


def test_metrics_stand_in_sections_the_whole_reward_first(monkeypatch):
    metrics = ("disc/accuracy", "kl/ref", "policy/entropy", "reward/aaa", "reward/total", "mine/x",
               "rollout/length", "val/score", "val/score/ocr", "data/left_out", "time/update_s",
               "credit/lambda", "health/kl")  # fmt: skip
    runs = [run_of("a", {name: [1.0] for name in metrics})]
    sections, found = drawn(monkeypatch, runs)
    assert [(s.key, [chart.title for chart in s.charts]) for s in sections] == [
        ("reward", ["reward/total", "reward/aaa"]),
        ("policy", ["policy/entropy", "rollout/length", "kl/ref"]),
        ("val", ["val/score"]),
        ("disc", ["disc/accuracy"]),
        ("credit", ["credit/lambda"]),
        ("other", ["mine/x"]),
        ("cost", ["time/update_s"]),
    ]
    assert len(found) == 10
    assert unshown(runs) == ["data", "health"]


def test_a_run_without_a_metric_keeps_its_colour(monkeypatch):
    runs = [run_of("a", {"reward/x": [1.0]}), run_of("b", {"reward/total": [2.0]})]
    (section,), found = drawn(monkeypatch, runs)
    assert [(curve.name, list(curve.y)) for curve in found["reward/total"]] == [
        ("a", []), ("b", [2.0]),
    ]  # fmt: skip
    assert section.names == ["a", "b"]


@pytest.mark.parametrize(("count", "size"), [(NUM_POINTS, 1), (NUM_POINTS + 1, 2), (1000, 17)])
def test_a_long_curve_is_its_means_within_its_range(monkeypatch, count, size):
    _, found = drawn(monkeypatch, [run_of("a", {"reward/total": [float(i) for i in range(count)]})])
    (curve,) = found["reward/total"]
    assert len(curve.y) == -(-count // size) <= NUM_POINTS
    assert curve.x == curve.y
    assert curve.y[0] == (size - 1) / 2
    if size == 1:
        assert curve.low is None
    else:
        assert (curve.low[0], curve.high[0]) == (0.0, size - 1)


def test_steps_without_a_number_are_gaps(monkeypatch):
    _, found = drawn(monkeypatch, [run_of("a", {"reward/total": [1.0, None, 3.0]})])
    assert found["reward/total"][0].y == [1.0, None, 3.0]


def config(seed, name, **changes):
    folder = f"runs/{name}"
    logger = {"class_path": "a.CSVCurves", "init_args": {"save_dir": folder}}
    reward = {"class_path": "rewards.Answer", "init_args": {"weight": 1.0, "name": None}}
    return {
        "seed_everything": seed, "name": name, "run_dir": folder,
        "trainer": {"logger": [logger]}, "data": {"loader": {"seed": seed}, "world": {"seed": 0}},
        "model": {"rewards": [reward, reward], "lr": 1.0},
    } | changes  # fmt: skip


def test_runs_that_differ_in_their_seed_are_one_curve(monkeypatch):
    """With the range of the runs as its band; over the steps that all have."""
    runs = [
        run_of("a", {"reward/total": [1.0, 2.0, 9.0]}, config(0, "a")),
        run_of("b", {"reward/total": [3.0, 2.0]}, config(1, "b")),
        run_of("c", {"reward/total": [5.0]}, config(0, "c", model={"lr": 2.0})),
        run_of("d", {"reward/total": [6.0]}, config(0, "d", data={"world": {"seed": 1}})),
        run_of("e"), run_of("f"),
    ]  # fmt: skip
    cells = {name: [run.name for run in among] for name, among in cells_of(runs).items()}
    assert cells == {"a and 1 more": ["a", "b"], "c": ["c"], "d": ["d"], "e": ["e"], "f": ["f"]}
    _, found = drawn(monkeypatch, runs, "cell")
    first, second, *_ = found["reward/total"]
    assert (list(first.x), first.y, first.low, first.high) == ([0, 1], [2, 2], [1, 2], [3, 2])
    assert (second.y, second.low) == ([5.0], None)


def test_settings_name_the_classes_of_a_list_and_hide_where_a_run_lies():
    told = settings_of(run_of("a", config=config(3, "a")))
    assert told["trainer.logger.CSVCurves.save_dir"] == "…"
    assert told["run_dir"] == "runs/a"
    assert told["model.rewards.Answer.weight"] == told["model.rewards.Answer 2.weight"] == "1.0"
