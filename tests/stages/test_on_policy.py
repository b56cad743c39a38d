"""Several updates of one window."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lit_vdistill.cli.config_files import merged, named_files, with_bases
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.credit import token_weights
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import OnPolicyModule, RMSDModule, VISDModule
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.on_policy import PolicyLossConfig
from lit_vdistill.stages.replay import CreditConfig
from lit_vdistill.stages.rmsd import DiscriminatorConfig

REWARDS = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>t</think><answer>A</answer>"
LONGER = "<think>a red dog runs to the left</think><answer>A</answer>"
LOSS = PolicyLossConfig(group_size=2, kl_coef=0.0, updates_per_rollout=2)
POLICY = VLMConfig("tiny/qwen3-vl", verify_shared_prefix="never")


@pytest.fixture
def stage_of(prepare, script):
    def build(kind=OnPolicyModule, loss=LOSS, **options):
        torch.manual_seed(0)
        stage = prepare(kind(POLICY, REWARDS, loss=loss, **options))
        return script(stage, {"s0": [RIGHT, WRONG], "s1": [WRONG, RIGHT]})

    return build


def descend(parameters, rate):
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad)


def test_the_second_update_compares_with_the_sampler_and_is_clipped(stage_of, batch_of, take_step):
    stage, batch = stage_of(), batch_of(["B"], ["B"])
    first = take_step(stage, batch, 2)
    assert first["train/loss"] == pytest.approx(0.0, abs=1e-5)
    descend(stage.policy.parameters(), 1.0)
    second = take_step(stage, batch, 2, update=1)
    clipped = [p.grad.clone() for p in stage.policy.parameters()]
    assert stage.engine.asked == [["s0", "s1"]]

    experience, advantages = stage.window.experience, stage.last_step.advantages.flatten()
    with torch.no_grad():
        scores = completion_logprobs(stage.policy, experience.batch.prompts, experience.rows)
    losses = []
    is_clipped = False
    for row, rollout in enumerate(experience.rollouts):
        old = torch.tensor(rollout.rollout_logprobs)
        ratio = (scores.logprobs[row, : len(old)] - old).exp()
        a = advantages[row]
        limit = ratio.clamp(max=1.2) if a > 0 else ratio.clamp(min=0.8)
        is_clipped |= bool((limit != ratio).any())
        losses.append((-a * limit).mean())
    assert is_clipped
    expected = torch.stack(losses).mean().item()
    assert second["train/loss"] == pytest.approx(expected, rel=1e-4)
    assert first["policy/clip_fraction"] == 0.0 < second["policy/clip_fraction"] < 1.0
    assert abs(expected) > 1e-2
    # Without the clip the gradient is another one.
    stage.loss_config = replace(LOSS, clip_low=0.99, clip_high=1e6)
    take_step(stage, batch, 2, update=1)
    errors = [
        (p.grad - g).norm() / g.norm().clamp(min=1e-12)
        for p, g in zip(stage.policy.parameters(), clipped, strict=True)
    ]
    assert max(errors) > 0.1


def test_a_mixtures_routers_are_balanced_over_the_step(prepare, script, batch_of, take_step):
    """By completion tokens, in every update of a window; not in one whose policy rests."""
    torch.manual_seed(0)
    policy = replace(POLICY, path="tiny/qwen3-vl-moe", router_loss_coef=0.5)
    stage = prepare(OnPolicyModule(policy, REWARDS, loss=LOSS))
    script(stage, {"s0": [RIGHT, WRONG], "s1": [LONGER, RIGHT]})
    batch = batch_of(["B"], ["B"])
    first = take_step(stage, batch, 2)
    experience = stage.window.experience
    parts = [experience.part([i]) for i in range(2)]
    losses = [
        completion_logprobs(stage.policy, part.batch.prompts, part.rows).router_loss.item()
        for part in parts
    ]
    tokens = [part.counts()["tokens"] for part in parts]
    mean = sum(n * loss for n, loss in zip(tokens, losses, strict=True)) / sum(tokens)
    assert first["router/balance"] == pytest.approx(mean, rel=1e-5)
    # On policy the surrogate itself is 0: each group's advantages cancel.
    assert first["train/loss"] == pytest.approx(0.5 * mean, rel=1e-4)
    second = take_step(stage, batch, 2, update=1)
    assert second["router/balance"] == pytest.approx(mean, rel=1e-5)
    stage.window = replace(stage.window, is_at_rest=True)
    assert "router/balance" not in take_step(stage, batch, 2, update=1)


def test_what_a_window_found_out_stays_while_lambda_moves(stage_of, batch_of, take_step):
    cases = []

    def diagnose(asked):
        cases.extend(asked)
        return ["look again"] * len(asked)

    judge = SimpleNamespace(identity="scripted", diagnose=diagnose)
    loss = replace(LOSS, updates_per_rollout=3)
    stage = stage_of(VISDModule, loss, credit=CreditConfig(mix=0.5), judge=judge)
    batch = batch_of(["B"], ["B"])
    fixed = []
    for update, mix in enumerate((0.5, 0.25, 0.0)):
        stage.credit_mix = mix
        stage.trainer.global_step = update
        values = take_step(stage, batch, 2, update=update)
        assert values["credit/lambda"] == mix
        record = stage.last_step
        assert record.step == update
        ratios = [method.log_ratio.clone() for method in record.methods]
        fixed.append((record.rewards, record.advantages, *ratios))
        descend(stage.policy.parameters(), 1.0)
        # Rewards that change in between, as an annealed σ does, change nothing.
        stage.rewards[2].weight += 1.0
        for number, method in enumerate(record.methods):
            prompts = stage.window.part(number, "cpu")
            scores = completion_logprobs(stage.policy, prompts.batch.prompts, prompts.rows)
            factors = method.terms(scores, StepMetrics()).factors
            weights = token_weights(ratios[number], method.advantages, 0.2)
            torch.testing.assert_close(
                factors, torch.where(scores.mask, 1 - mix + mix * weights, 1)
            )
    stage.rewards[2].weight -= 3.0
    assert len(cases) == 4
    assert stage.engine.asked == [["s0", "s1"]]
    for later in fixed[1:]:
        assert all(torch.equal(one, other) for one, other in zip(fixed[0], later, strict=True))
    assert any(ratio.abs().max() > 0.01 for ratio in fixed[0][2:])


def test_the_discriminator_learns_in_the_first_update_only(stage_of, batch_of, take_step):
    disc = DiscriminatorConfig(warmup_max_steps=0)
    stage, batch = stage_of(RMSDModule, disc=disc), batch_of(["B"], ["B"])
    torch.nn.init.normal_(stage.discriminator.head.weight)
    first = take_step(stage, batch, 3)
    assert any(p.grad.any() for p in stage.discriminator.parameters())
    rewards = stage.last_step.rewards
    descend(stage.parameters(), 0.1)
    second = take_step(stage, batch, 3, update=1)
    # In the graph, as all strategies want it, and at rest.
    assert all(p.grad is not None and not p.grad.any() for p in stage.discriminator.parameters())
    assert any(p.grad.any() for p in stage.policy.parameters())
    assert torch.equal(stage.last_step.rewards, rewards)
    assert "disc/loss" in first
    assert "disc/loss" not in second
    assert [stage.lr_factor("disc", step) > 0 for step in range(4)] == [True, False] * 2
    assert all(stage.lr_factor("policy", step) > 0 for step in range(4))


def test_a_window_at_rest_keeps_all_updates_at_rest(stage_of, batch_of, take_step):
    """Adam would count, and decay, in a step whose gradients are 0."""
    stage = stage_of(RMSDModule, disc=DiscriminatorConfig(warmup_max_steps=1))
    batch = batch_of(["B"], ["B"])
    for update in range(2):
        assert stage.is_warming_up
        stage.trainer.global_step = update
        take_step(stage, batch, update=update)
        assert not any(p.grad.any() for p in stage.policy.parameters())
    assert not stage.is_warming_up
    assert stage.rested_steps == 2


def recipe_loss(recipe):
    """The loss of a recipe, on the two rollouts a prompt that are scripted."""
    files = named_files(with_bases(["--config", f"configs/{recipe}.yaml"]))
    options = merged(files)["model"]["init_args"]["loss"]
    return PolicyLossConfig(**options | {"group_size": 2, "resample_no_signal": 0})


@pytest.mark.parametrize("recipe", ["gspo", "cispo", "dapo"])
def test_a_relative_of_grpo_is_grpo_until_it_is_off_policy(stage_of, batch_of, take_step, recipe):
    """What the recipe does to ratios alone: lengths and advantages as in GRPO."""
    theirs = recipe_loss(recipe)
    assert theirs.updates_per_rollout >= 2
    shared = {"reduction": "sequence_mean", "advantage": "grpo"}
    found, grpos = [], []
    for loss, values in ((replace(theirs, **shared), found), (replace(LOSS, **shared), grpos)):
        stage, batch = stage_of(loss=loss), batch_of(["B"], ["B"])
        for update in range(2):
            stage.trainer.global_step = update
            logged = take_step(stage, batch, 2, update=update)
            values.append((logged, [p.grad.clone() for p in stage.policy.parameters()]))
            descend(stage.policy.parameters(), 1.0)
    (first, gradient), (second, _) = found
    (grpo_first, grpo_gradient), (grpo_second, _) = grpos
    assert first["train/loss"] == pytest.approx(grpo_first["train/loss"], abs=1e-6)
    for one, other in zip(gradient, grpo_gradient, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert first["policy/clip_fraction"] == 0.0 < second["policy/clip_fraction"]
    assert abs(second["train/loss"] - grpo_second["train/loss"]) > 1e-3


def test_dr_grpo_sums_tokens_over_the_limit(stage_of, script, batch_of, take_step):
    """By hand at a ratio of 1: -Σ A T / (rollouts x limit), where GRPO has -Σ A / rollouts = 0."""
    loss = recipe_loss("dr_grpo")
    assert loss.updates_per_rollout >= 2
    stage = stage_of(loss=loss, sampling=SamplingConfig(max_completion_tokens=40))
    script(stage, {"s0": [RIGHT, LONGER], "s1": [WRONG, RIGHT]})
    values = take_step(stage, batch_of(["B"], ["B"]), 2)
    rollouts = stage.window.experience.rollouts
    lengths = torch.tensor([float(len(r.completion_ids)) for r in rollouts])
    advantages = stage.last_step.advantages.flatten()
    rewards = stage.last_step.rewards
    torch.testing.assert_close(advantages, (rewards - rewards.mean(1, keepdim=True)).flatten())
    expected = -(advantages * lengths).sum() / (4 * 40)
    assert values["train/loss"] == pytest.approx(expected.item(), abs=1e-6)
    assert abs(expected) > 1e-3
