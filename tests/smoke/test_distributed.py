"""One, two and four processes on CPU: the same numbers under every strategy."""

import json
import math
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.families import FAMILIES

METHODS = ("sft", "grpo", "rmsd", "visd", "opd")
STRATEGIES = ("ddp", "fsdp2", "1", "2", "3")
RATE = 8e-3
"""SGD's, in `sharded_fit.py`."""


def weights(folder):
    """As they stand in the file: names that another tool would look for."""
    return load_file(folder / "model.safetensors")


def steps(out):
    return json.loads(out.with_name(f"{out.name}.json").read_text())


def apart(out, reference, start):
    """How far a run is from another: rollouts, losses, weights."""
    ours, theirs = steps(out), steps(reference)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one["rollouts"] == other["rollouts"]
    losses = [
        abs(one["loss"] - other["loss"]) / max(abs(other["loss"]), 1.0)
        for one, other in zip(ours, theirs, strict=True)
    ]
    ends, others = weights(out), weights(reference)
    assert ends.keys() == others.keys()
    moved = math.sqrt(sum(float((others[n] - start[n]).square().sum()) for n in start))
    gap = math.sqrt(sum(float((others[n] - ends[n]).square().sum()) for n in start))
    return max(losses), gap / moved


def check_equal(fit_together, starting_student, folder, pairs, strategies, count, sgd=1e-5, **more):
    """Fit every method and optimizer on one process and on several, and compare."""
    start = weights(starting_student)
    single = [
        {"method": m, "optimizer": o, "strategy": "auto", "out": str(folder / f"{m}-{o}"), **more}
        for m, o in pairs
    ]
    several = [
        case
        | {"strategy": strategy, "out": f"{case['out']}-{strategy}"}
        | ({"view_to": f"{case['out']}-{strategy}-view"} if case["method"] == "visd" else {})
        for strategy in strategies
        for case in single
    ]
    fit_together(single, student=starting_student)
    fit_together(several, count, student=starting_student)
    found, limits = {}, {"sgd": sgd, "adamw": 1e-3}
    for case in several:
        method, optimizer, strategy = case["method"], case["optimizer"], case["strategy"]
        reference = folder / f"{method}-{optimizer}"
        found[method, optimizer, strategy] = apart(folder / case["out"], reference, start)
        # Looking on changes nothing, and sharded networks may be looked at. With four processes, or
        # other rollouts, no group of the first has a signal: there is nothing to see.
        if method == "visd" and count == 2 and not more:
            assert list(folder.glob(f"*-{strategy}-view/credit/*"))
    sys.stdout.write("\n".join(f"{k} {v}" for k, v in found.items()))
    assert all(loss <= 1e-5 for loss, _ in found.values()), found
    assert all(gap <= limits[key[1]] for key, (_, gap) in found.items()), found


def test_two_processes_learn_what_one_does(fit_together, starting_student, tmp_path):
    """Three steps, two pieces each: text beside video and image, unlike chunks and active rows."""
    pairs, strategies = [("visd", "adamw")], ("fsdp2",)
    check_equal(fit_together, starting_student, tmp_path, pairs, strategies, 2)


@pytest.mark.matrix
def test_two_networks_are_clipped_each_by_itself(fit_together, starting_student, tmp_path):
    """Both gradients are beyond the bound in each process's shards; SGD's steps show the scale."""
    pairs, bound = [("rmsd", "sgd")], 1.0
    strategies = ("ddp", "fsdp2")
    # The weights move by 1e-4 of themselves, of which rounding is more than in longer steps.
    check_equal(fit_together, starting_student, tmp_path, pairs, strategies, 2, 1e-4, clip=bound)
    start = weights(starting_student)
    for out in ("rmsd-sgd", *(f"rmsd-sgd-{strategy}" for strategy in strategies)):
        _, second, third = steps(tmp_path / out)  # the first is the discriminator's alone
        for norms in (second["norms"], third["norms"]):
            assert norms.keys() == {"policy", "disc"}
            assert all(norm > 2 * bound for norm in norms.values()), norms
        ends = weights(tmp_path / out)
        moved = math.sqrt(sum(float((ends[n] - start[n]).square().sum()) for n in start))
        # Two steps of this length; were both clipped as one, the policy's were a tenth of it.
        assert bound * RATE < moved <= 2.001 * bound * RATE, out


@pytest.mark.parametrize(
    ("strategy", "overlap"),
    [
        ("fsdp2", 0),
        pytest.param("3", 0, marks=pytest.mark.matrix),
        pytest.param("ddp", 1, marks=pytest.mark.matrix),
        pytest.param("fsdp2", 1, marks=pytest.mark.matrix),
    ],
)
def test_two_processes_learn_from_one_server_what_one_does(
    fit_together, starting_student, families, tmp_path, strategy, overlap
):
    """Process 0 sends whole weights, each asks about its own prompts."""
    from tests.rollouts.served_stand_in import StandIn

    server = StandIn(*families["qwen3-vl"])
    try:
        served = {"engine_url": server.url, "overlap": overlap}
        check_equal(
            fit_together, starting_student, tmp_path, [("grpo", "sgd")], (strategy,), 2, **served
        )
    finally:
        server.stop()
    # Before each of three windows, on one process and on two; the last one's is drawn early.
    assert server.calls.count("/update_weights") == 2 * (3 - overlap)
    probes = 2 * (1 + 2)  # of each process, before each window that is drawn early
    assert len(server.requests) == 2 * 12 + overlap * probes


def test_two_processes_stop_together_where_only_one_sees_what_is_wrong(
    fit_together, starting_student, families, tmp_path
):
    """The first process has texts alone in its window, which the server gets right."""
    from tests.rollouts.served_stand_in import StandIn

    server = StandIn(*families["qwen3-vl"], faults=["other positions"])
    case = {"method": "grpo", "strategy": "ddp", "out": str(tmp_path / "out")}
    try:
        with pytest.raises(AssertionError, match="a medium of one placeholder: .* other positions"):
            fit_together([{**case, "engine_url": server.url}], 2, student=starting_student)
    finally:
        server.stop()


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("family", FAMILIES[1:])
def test_in_every_family_two_processes_learn_what_one_does(
    fit_together, student_of, tmp_path, family
):
    pairs = [("sft", "adamw"), ("visd", "adamw")]
    # ZeRO-3 cannot load the experts of Qwen3-VL.
    student, strategies = student_of(family), ("fsdp2", "2" if family == "qwen3-vl-moe" else "3")
    bound = 1200 if family == "internvl3.5" else 520  # its frames are more tokens
    check_equal(fit_together, student, tmp_path, pairs, strategies, 2, max_tokens=bound)


@pytest.mark.matrix
def test_routers_are_balanced_over_all_processes(fit_together, student_of, tmp_path):
    """A prompt a piece, on one process and on two: a mean over more tokens is another loss."""
    student = student_of("qwen3.5-moe")
    case = {"method": "visd", "optimizer": "adamw", "router_loss_coef": 0.5, "max_tokens": 520}
    outs = {name: tmp_path / name for name in ("auto", "fsdp2", "ddp")}
    cases = [{**case, "strategy": name, "out": str(out)} for name, out in outs.items()]
    fit_together([{**cases[0], "num_pieces": 4}], student=student)
    fit_together(cases[1:], 2, student=student)
    for name in ("fsdp2", "ddp"):
        loss, gap = apart(outs[name], outs["auto"], weights(student))
        assert loss <= 1e-5
        assert gap <= 1e-3
    assert all(step["loss"] > 0.5 for step in steps(outs["auto"]))  # without it, about 0


@pytest.mark.matrix
def test_zero_3_resumes_with_the_shards_of_a_bf16_teacher(fit_together, tmp_path):
    """Step 3 follows from the teacher's float32 shards, which each process keeps."""
    fixed = {"method": "visd", "strategy": "3", "optimizer": "adamw", "precision": "bf16-true"}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    saved = tmp_path / "saved"
    fit_together(
        [
            {**fixed, "out": str(whole), "save_to": str(saved)},
            {**fixed, "out": str(resumed), "resume_from": str(saved / "step=2.ckpt")},
        ],
        2,
    )
    ends = [weights(folder) for folder in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    for rank in (0, 1):
        shards = [torch.load(f"{folder}.teacher{rank}.pt") for folder in (whole, resumed)]
        assert {shard.dtype for shard in shards[0].values()} == {torch.float32}
        assert all(torch.equal(shards[0][name], shards[1][name]) for name in shards[0])


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("strategy", "count"),
    [("auto", 1), *((name, 2) for name in ("ddp", "fsdp2", "fsdp2-file", "2", "3"))],
)
def test_behind_lambda_0_the_teacher_is_gone_and_stays_so(
    fit_together, starting_student, tmp_path, strategy, count
):
    """λ is 0 from the third of five steps; two runs go on from before and from behind it."""
    fixed = {"method": "visd", "strategy": strategy, "optimizer": "adamw", "num_steps": 5}
    fixed |= {"anneal_steps": 2, "precision": "bf16-true" if strategy == "3" else "32-true"}
    whole, saved = tmp_path / "whole", tmp_path / "saved"
    resumed = {step: tmp_path / f"from-{step}" for step in (2, 4)}
    fit_together([{**fixed, "out": str(whole), "save_to": str(saved)}], count)
    goes_on = [
        {**fixed, "out": str(out), "resume_from": str(saved / f"step={step}.ckpt")}
        for step, out in resumed.items()
    ]
    fit_together(goes_on, count)
    size = sum(w.nbytes for w in weights(starting_student).values()) // count
    size //= 2 if strategy == "3" else 1
    taken = steps(whole)
    assert [step["has_teacher"] for step in taken] == [True, True, False, False, False]
    for rank in range(count):
        held = [step["weight_bytes"][rank] for step in taken]
        sys.stdout.write(f"{strategy} rank {rank}: {held}, a network {size}\n")
        # DDP's processes have all of it each, and FSDP2's keep a part of it whole.
        least = size * (count if strategy in ("ddp", "2") else 1)
        assert held[1] - held[2] >= 0.95 * least
        assert held[2] == held[4]
    ends = weights(whole)
    for step, out in resumed.items():
        assert [s["has_teacher"] for s in steps(out)] == [False] * (5 - step)
        assert [s["loss"] for s in steps(out)] == [s["loss"] for s in taken[step:]]
        assert all(torch.equal(weights(out)[name], ends[name]) for name in ends)


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_checkpoints_of_two_processes_resume_on_one_and_on_four(fit_together, tmp_path):
    """Two steps, a checkpoint in which all random states differ, a third step."""
    fixed = {"method": "rmsd", "optimizer": "adamw", "num_pieces": 2}
    strategies = ("ddp", "fsdp2", "fsdp2-file", "3")
    wholes = [
        {"strategy": s, "out": str(tmp_path / s), "save_to": str(tmp_path / f"{s}-saved")}
        for s in strategies
    ]
    fit_together([fixed | case for case in wholes], 2)

    def resumed(strategy, count, saved):
        out = tmp_path / f"{saved}-{count}"
        return {
            **fixed,
            "strategy": strategy,
            "out": str(out),
            "resume_from": str(tmp_path / f"{saved}-saved" / "step=2.ckpt"),
        }

    fit_together([resumed(s, 2, s) for s in strategies], 2)
    free = [s for s in strategies if s != "3"]
    fit_together([resumed("auto" if s == "ddp" else s, 1, s) for s in free], 1)
    fit_together([resumed(s, 4, s) for s in free], 4)
    for strategy in strategies:
        whole, ends = steps(tmp_path / strategy), weights(tmp_path / strategy)
        for count in (1, 2, 4) if strategy != "3" else (2,):
            out = tmp_path / f"{strategy}-{count}"
            (step,) = steps(out)
            assert step["loss"] == pytest.approx(whole[2]["loss"], rel=1e-5, abs=1e-5)
            assert step["rollouts"] == whole[2]["rollouts"]
            gap = max((weights(out)[name] - ends[name]).abs().max() for name in ends)
            assert gap <= (0.0 if count == 2 else 1e-5), (strategy, count)
        # Each process goes on with its own random state.
        assert steps(tmp_path / f"{strategy}-2")[0]["numbers"] == whole[2]["numbers"]
        assert len(set(whole[2]["numbers"])) == 2


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("strategy", "count"), [*((name, 2) for name in STRATEGIES), ("fsdp2", 4), ("3", 4)]
)
def test_all_strategies_learn_the_same(fit_together, starting_student, tmp_path, strategy, count):
    pairs = [(method, optimizer) for method in METHODS for optimizer in ("sgd", "adamw")]
    check_equal(fit_together, starting_student, tmp_path, pairs, (strategy,), count)
