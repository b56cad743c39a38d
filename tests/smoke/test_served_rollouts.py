"""Whole runs whose rollouts are drawn by a stand-in for a vLLM server."""

import csv
import threading

import pytest
import torch

from tests.rollouts.served_stand_in import StandIn

ENGINE = "--model.sampling.engine"
SAVED = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
    "--trainer.callbacks.save_top_k=-1",
    "--trainer.callbacks.filename={step}",
]
AHEAD = ["--model.sampling.overlap=1", "--model.loss.mismatch=truncate"]


@pytest.fixture
def stand_in(families):
    server = StandIn(*families["qwen3-vl"])
    yield server
    server.stop()


@pytest.fixture
def served_run(small_run, stand_in, rewarded_by_text, tmp_path):
    """Runs a recipe on the stand-in; gives what it logged, a row a step."""

    def run(config, name, *overrides, num_steps=3):
        folder = tmp_path / name
        named = f"{ENGINE}.init_args"
        small_run(
            config,
            folder,
            f"{ENGINE}=lit_vdistill.rollouts.vllm_engine.VLLMRolloutEngine",
            f"{named}.url={stand_in.url}",
            f"{named}.patience_s=120",
            "--model.loss.group_size=2",
            f"--trainer.max_steps={num_steps}",
            f"--trainer.val_check_interval={num_steps}",
            "--trainer.logger=lit_vdistill.tracking.csv_curves.CSVCurves",
            f"--trainer.logger.save_dir={folder}",
            *SAVED,
            f"--trainer.callbacks.dirpath={folder}/all",
            *overrides,
        )
        [table] = folder.rglob("metrics.csv")
        with table.open() as file:
            return [row for row in csv.DictReader(file) if row.get("reward/total")]

    return run


def weights(folder, step):
    state = torch.load(folder / f"all/step={step}.ckpt", weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if name.startswith("policy.")}


def are_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("config", ["grpo", "rmsd", "visd"])
def test_every_method_trains_on_rollouts_of_its_present_weights(served_run, stand_in, config):
    warm = ["--model.disc.warmup_max_steps=0"] if config == "rmsd" else []
    rows = served_run(config, "run", *warm)
    assert len(rows) == 3
    assert all(float(row["rollout/logprob_gap_max"]) < 1e-4 for row in rows)
    assert all(float(row["rollout/age"]) == 0 for row in rows)
    # Three windows and the validations in front of and behind them.
    assert stand_in.calls.count("/update_weights") == 5


def test_a_server_whose_weights_are_stale_stops_the_step(served_run, stand_in):
    stand_in.faults.add("stale")
    with pytest.raises(RuntimeError, match=r"sampler and trainer differ .*; a text alone differs"):
        served_run("grpo", "run")


def test_a_run_whose_server_dies_and_comes_back_is_the_same(served_run, stand_in, tmp_path):
    served_run("grpo", "whole")
    asked = len(stand_in.requests)
    stand_in.requests.clear()
    generate = stand_in.generate

    def dies(body):
        if len(stand_in.requests) == asked // 2:
            stand_in.generate = generate
            threading.Thread(target=restart, daemon=True).start()
        return generate(body)

    def restart():
        stand_in.stop()
        threading.Timer(1.0, stand_in.start).start()

    stand_in.generate = dies
    served_run("grpo", "broken")
    assert are_equal(weights(tmp_path / "whole", 3), weights(tmp_path / "broken", 3))
    assert len(stand_in.requests) >= asked


def test_a_window_is_drawn_while_the_one_before_it_trains(served_run, stand_in):
    rows = served_run("grpo", "run", *AHEAD, num_steps=4)
    assert [float(row["rollout/age"]) for row in rows] == [0, 1, 1, 1]
    assert float(rows[0]["rollout/logprob_gap_max"]) < 1e-4
    # The policy has moved since; what that does is weighed, and the engine's own part is none.
    assert all(float(row["rollout/logprob_gap_max"]) > 1e-4 for row in rows[1:])
    assert all(float(row["parity/gap_max"]) < 1e-4 for row in rows[:3])
    assert all(float(row["mismatch/weight"]) != 1 for row in rows[1:])
    sent = stand_in.calls.count("/update_weights")
    assert sent == 5  # behind the last step there is nothing to draw


@pytest.mark.parametrize(
    "more",
    [
        [],
        AHEAD,
        pytest.param([*AHEAD, "--model.loss.updates_per_rollout=2"], marks=pytest.mark.matrix),
        pytest.param(
            ["--model.loss.mismatch=mask", "--model.loss.mismatch_level=sequence",
             "--model.loss.updates_per_rollout=2"],
            marks=pytest.mark.matrix,
        ),
    ],
    ids=["in turn", "ahead", "ahead, two updates", "two updates"],
)  # fmt: skip
def test_a_stopped_run_goes_on_as_if_it_had_not_been(served_run, tmp_path, more):
    served_run("grpo", "whole", *more, num_steps=4)
    stop = 1 if "--model.loss.updates_per_rollout=2" in more else 2
    checkpoint = f"--ckpt_path={tmp_path}/whole/all/step={stop}.ckpt"
    served_run("grpo", "resumed", *more, checkpoint, num_steps=4)
    ends = [weights(tmp_path / name, 4) for name in ("whole", "resumed")]
    assert are_equal(*ends)
    assert not are_equal(ends[0], weights(tmp_path / "whole", stop))


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--model.sampling.overlap=1"], "loss.mismatch truncate or mask"),
        ([*AHEAD, "--model.loss.resample_no_signal=1"], "loss.resample_no_signal 0"),
        ([*AHEAD, f"{ENGINE}=null"], "needs an engine of its own"),
        (["--model.sampling.overlap=2"], "overlap is 2, expected 0 or 1"),
        (["--model.loss.mismatch_cap=0.5"], "loss.mismatch_cap is 0.5"),
    ],
)
def test_what_cannot_go_together_is_refused(served_run, more, what, capsys):
    with pytest.raises((SystemExit, ValueError)) as error:
        served_run("grpo", "run", *more)
    assert what in capsys.readouterr().err + str(error.value)
