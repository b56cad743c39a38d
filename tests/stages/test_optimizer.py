from copy import deepcopy

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.schedules import learning_rate_factor
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.on_policy import PolicyLossConfig
from lit_vdistill.stages.optimizer import (
    OptimConfig,
    RestingAdamW,
    clip_to_norm,
    gradients_of,
    total_norm,
    with_decay,
)
from lit_vdistill.stages.rmsd import DiscriminatorConfig, RMSDModule
from lit_vdistill.stages.sft import SFTModule

RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>t</think><answer>A</answer>"


def weight(seed=0):
    return torch.nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(seed)))


def descend(optimizer, parameters, step):
    for i, parameter in enumerate(parameters):
        generator = torch.Generator().manual_seed(1000 * step + i)
        parameter.grad = torch.randn(5, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("rested", [1, 7])
def test_who_rested_moves_as_if_it_started_then(rested):
    """To the bit, momentum and decay included; the other group is stock AdamW's all along."""
    late, always = weight(0), weight(1)
    expected_late, expected_always = deepcopy(late), deepcopy(always)
    groups = [{"params": [late], "lr": 0.0}, {"params": [always], "lr": 0.1}]
    ours = RestingAdamW(groups, weight_decay=0.1)
    stock = torch.optim.AdamW([expected_always], lr=0.1, weight_decay=0.1)
    for step in range(rested):
        descend(ours, [late, always], step)
        expected_always.grad = always.grad.clone()
        stock.step()
        assert torch.equal(late, expected_late)
        assert ours.state[late]["step"] == 0
    ours.param_groups[0]["lr"] = 0.1
    fresh = torch.optim.AdamW([expected_late], lr=0.1, weight_decay=0.1)
    for step in range(rested, rested + 4):
        descend(ours, [late, always], step)
        expected_late.grad, expected_always.grad = late.grad.clone(), always.grad.clone()
        fresh.step()
        stock.step()
        assert torch.equal(late, expected_late)
        assert torch.equal(always, expected_always)
    assert ours.state[late]["step"] == 4
    assert len(ours.param_groups) == 2


def test_a_pause_keeps_moments_and_their_count():
    paused, expected = weight(), weight()
    ours = RestingAdamW([paused], lr=0.1)
    stock = torch.optim.AdamW([expected], lr=0.1)
    for step in range(6):
        ours.param_groups[0]["lr"] = 0.1 if step % 2 == 0 else 0.0
        descend(ours, [paused], step)
        if step % 2 == 0:
            expected.grad = paused.grad.clone()
            stock.step()
        assert torch.equal(paused, expected)


def test_its_state_goes_into_a_checkpoint_and_back():
    def make():
        parameters = [weight(0), weight(1)]
        groups = [{"params": [p], "lr": lr} for p, lr in zip(parameters, (0.0, 0.1), strict=True)]
        return parameters, RestingAdamW(groups)

    (whole, optimizer), (resumed, other) = make(), make()
    for step in range(3):
        descend(optimizer, whole, step)
    state = deepcopy(optimizer.state_dict())
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    with torch.no_grad():
        for target, source in zip(resumed, whole, strict=True):
            target.copy_(source)
    other.load_state_dict(state)
    for step, group in ((3, 0.0), (4, 0.1)):
        for each, parameters in ((optimizer, whole), (other, resumed)):
            each.param_groups[0]["lr"] = group
            descend(each, parameters, step)
    assert all(torch.equal(one, two) for one, two in zip(whole, resumed, strict=True))
    assert other.state[resumed[0]]["step"] == 1


def test_it_rests_under_a_scheduler_and_runs_its_closure():
    late, always = weight(0), weight(1)
    optimizer = RestingAdamW([{"params": [late]}, {"params": [always]}], lr=0.1)
    scheduler = LambdaLR(optimizer, [lambda step: float(step >= 3), lambda step: 1.0])
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = (late.square() + always.square()).sum()
        loss.backward()
        return loss.item()

    for _ in range(5):
        before = late.detach().clone()
        loss = (late.square() + always.square()).sum().item()
        assert optimizer.step(closure) == loss
        scheduler.step()
        seen.append(not torch.equal(late, before))
    # `step` calls the closure, and the gradients that it makes are used.
    assert seen == [False, False, False, True, True]
    assert (optimizer.state[late]["step"], optimizer.state[always]["step"]) == (2, 5)


def test_norms_and_biases_do_not_decay():
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.LayerNorm(3))
    sharded = torch.nn.Parameter(torch.zeros(0))
    sharded.ds_shape = torch.Size((4, 5))  # as ZeRO-3 keeps it
    group = {"name": "policy", "params": [*network.parameters(), sharded], "lr": 0.1}
    decaying, other = with_decay(group, 0.5)
    assert [p.shape for p in decaying["params"]] == [(3, 2, 2, 2), (0,)]
    assert [p.shape for p in other["params"]] == [(3,)] * 3
    before = deepcopy(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    RestingAdamW([decaying, other]).step()
    torch.testing.assert_close(network[0].weight, 0.95 * before[0].weight)
    assert torch.equal(network[0].bias, before[0].bias)
    assert torch.equal(network[1].weight, before[1].weight)
    assert len({decaying["name"], other["name"]}) == 2
    assert decaying["network"] == other["network"] == "policy"
    (whole,) = with_decay(group, 0.0)
    assert (whole["name"], whole["params"]) == ("policy", group["params"])


def test_a_gradients_norm_is_that_of_the_network(batch_of, monkeypatch):
    """Over both of its groups."""
    stage = SFTModule(
        VLMConfig("tiny/qwen3-vl"), [OuterFormat()], optim=OptimConfig(weight_decay=0.1, horizon=8)
    )
    stage.configure_model()
    optimizer = stage.configure_optimizers()["optimizer"]
    assert len(optimizer.param_groups) == 2
    logged = {}
    monkeypatch.setattr(stage, "log", lambda name, value, **_: logged.update({name: value}))
    for parameter in stage.policy.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    stage.on_before_optimizer_step(optimizer)
    size = sum(p.numel() for p in stage.policy.parameters() if p.requires_grad)
    assert logged.keys() == {"policy/grad_norm"}
    assert float(logged["policy/grad_norm"]) == pytest.approx(size**0.5)


@pytest.fixture
def fit(batch_of, script):
    """Fits R-MSD for some steps; gives the stage, its optimizer and rates by group."""

    def run(max_steps, updates=1, warmup=3, horizon=8):
        torch.manual_seed(0)
        stage = RMSDModule(
            VLMConfig("tiny/qwen3-vl", verify_shared_prefix="never"),
            [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)],
            disc=DiscriminatorConfig(warmup_max_steps=warmup, warmup_accuracy=1.1, lr=1e-4),
            loss=PolicyLossConfig(group_size=2, updates_per_rollout=updates, kl_coef=0.0),
            sampling=SamplingConfig(max_completion_tokens=6),
            optim=OptimConfig(lr=1e-3, warmup_ratio=0.25, horizon=horizon),
        )
        stage.configure_model()
        script(stage, {"s0": [RIGHT, WRONG]})
        batch = batch_of(["B", "B"])
        turns = [WindowTurn(batch, update=step % updates) for step in range(max_steps)]
        rates = {"policy": [], "disc": []}

        def note(trainer, module, optimizer):
            for group in optimizer.param_groups:
                rates[group["name"]].append(group["lr"])

        trainer = Trainer(
            accelerator="cpu", devices=1, max_steps=max_steps, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[LambdaCallback(on_before_optimizer_step=note)],
        )  # fmt: skip
        trainer.fit(stage, DataLoader(turns, batch_size=None))
        (optimizer,) = trainer.optimizers
        return stage, optimizer, rates

    return run


def counts_of(optimizer):
    """Adam's counts by group."""
    return {
        group["name"]: {int(optimizer.state[p]["step"]) for p in group["params"]}
        for group in optimizer.param_groups
    }


def test_behind_a_warmup_the_policy_counts_its_own_steps_only(fit):
    stage, optimizer, rates = fit(max_steps=6)
    assert counts_of(optimizer) == {"policy": {3}, "disc": {6}}
    # 8 steps in all: two of warm-up, then the cosine; of the policy's, none is lost.
    factors = [learning_rate_factor(step, 8, 0.25, "cosine") for step in range(6)]
    assert factors[0] == 0.5
    assert rates["policy"] == pytest.approx([0.0] * 3 + [1e-3 * f for f in factors[:3]])
    assert rates["disc"] == pytest.approx([1e-4 * f for f in factors])


def test_a_warmup_ends_with_a_window_and_its_discriminator_learns_once(fit):
    """Three steps of warm-up in windows of two updates: the policy rests for four."""
    _, optimizer, rates = fit(max_steps=8, updates=2)
    assert [rate > 0 for rate in rates["policy"]] == [False] * 4 + [True] * 4
    assert [rate > 0 for rate in rates["disc"]] == [True, False] * 4
    assert counts_of(optimizer) == {"policy": {4}, "disc": {4}}


def test_the_schedules_horizon_is_not_the_runs_length(fit):
    _, _, short = fit(max_steps=2, warmup=0)
    _, _, long = fit(max_steps=4, warmup=0)
    assert short["policy"] == long["policy"][:2]
    # Without one the run's length is it.
    _, _, own = fit(max_steps=4, warmup=0, horizon=0)
    assert own["policy"] == pytest.approx(
        [1e-3 * learning_rate_factor(step, 4, 0.25, "cosine") for step in range(4)]
    )
    assert own["policy"] != long["policy"]


def test_each_network_is_clipped_by_itself(fit):
    """The discriminator's gradient is a hundred times the policy's, which is within the bound."""
    stage, optimizer, _ = fit(max_steps=1, warmup=0)
    sizes = {"policy": 0.06, "disc": 7.0}
    for network, gradients in fill(optimizer, sizes).items():
        assert float(total_norm(gradients)) == pytest.approx(sizes[network], rel=1e-3)
    stage.configure_gradient_clipping(optimizer, 1.0, "norm")
    found = {name: float(total_norm(of)) for name, of in gradients_of(optimizer).items()}
    assert found == pytest.approx({"policy": 0.06, "disc": 1.0}, rel=1e-3)
    stage.configure_gradient_clipping(optimizer, 0.01, "norm")
    found = {name: float(total_norm(of)) for name, of in gradients_of(optimizer).items()}
    assert found == pytest.approx({"policy": 0.01, "disc": 0.01}, rel=1e-3)


def fill(optimizer, norms):
    """Gives each network gradients of a norm."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    for network, gradients in gradients_of(optimizer).items():
        torch._foreach_mul_(gradients, norms[network] / float(total_norm(gradients)))
    return gradients_of(optimizer)


def test_clipping_one_network_is_pytorchs_to_the_bit():
    ours, theirs = ([weight(i) for i in range(3)] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        one.grad, other.grad = 3.0 * one.detach(), 3.0 * other.detach()
    clip_to_norm([p.grad for p in ours], 0.7)
    torch.nn.utils.clip_grad_norm_(theirs, 0.7)
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True))


def test_where_all_are_clipped_as_one_the_policy_decides_and_adam_steps_alike(fit):
    """DeepSpeed: the loss beside the policy keeps its value, its gradient is a hundredth."""
    stage, optimizer, _ = fit(max_steps=1, warmup=0)
    (loud_eps,) = {group["eps"] for group in optimizer.param_groups}
    loud, quiet = weight(), weight()
    for parameter, eps, is_quiet in ((loud, loud_eps, False), (quiet, None, True)):
        stage._is_clipped_as_one = lambda is_quiet=is_quiet: is_quiet
        optimizer = RestingAdamW([parameter], lr=0.1, eps=eps or stage.beside_policy_eps())
        for step in range(3):
            optimizer.zero_grad()
            loss = (parameter - step).square().sum()
            descended = stage.beside_policy(loss)
            assert descended.item() == pytest.approx(loss.item())
            descended.backward()
            if is_quiet:
                assert float(total_norm([parameter.grad])) < 0.1
            optimizer.step()
    torch.testing.assert_close(quiet, loud, rtol=1e-6, atol=1e-7)
