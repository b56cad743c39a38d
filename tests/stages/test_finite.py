"""NaN where a run can meet it: nothing is learnt from it, and whose it was is said."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Answer, GroundedFormat, Reward
from lit_vdistill.rewards.reward import RewardError, reward_breakdown
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import OnPolicyModule, SFTModule
from lit_vdistill.stages.finite import NonFiniteError

POLICY = VLMConfig("tiny/qwen3-vl")


@pytest.fixture
def batch(batch_of):
    """Two samples, of the second of which a tower is to read what is no number."""
    first, second = batch_of(["B"], ["A"]).prompts
    scale = replace(second.pixel_scale, mean=(math.nan, 0.0, 0.0))
    return batch_of(["B"], ["A"]).with_prompts([first, replace(second, pixel_scale=scale)])


@pytest.fixture(params=[SFTModule, OnPolicyModule])
def stage(request, prepare):
    sampling = SamplingConfig(max_completion_tokens=4)
    stage = prepare(request.param(POLICY, [Answer()], sampling=sampling))
    stage.trainer.precision = "32-true"
    stage.trainer.strategy.model = stage
    return stage


def test_a_loss_that_is_no_number_stops_the_step_and_names_its_samples(
    stage, batch, take_step, monkeypatch
):
    if isinstance(stage, OnPolicyModule):  # what it would sample is not what this is about
        drawn = stage.source.draw
        sound = batch.with_prompts([batch.prompts[0], batch.prompts[0]])
        monkeypatch.setattr(stage.source, "draw", lambda _, seed: drawn(sound, seed))
    before = {name: p.clone() for name, p in stage.policy.named_parameters()}
    with pytest.raises(NonFiniteError, match=r"step 0: train/loss is NaN .* samples s1; so are:"):
        take_step(stage, batch, num_pieces=2)
    assert all(torch.equal(before[n], p) for n, p in stage.policy.named_parameters())


def test_a_gradient_that_is_no_number_stops_the_step(stage, batch_of, take_step):
    take_step(stage, batch_of(["B"], ["A"]))
    groups = [{"network": "policy", "params": list(stage.policy.parameters())}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    stage.on_before_optimizer_step(optimizer)
    parameter = next(p for p in stage.policy.parameters() if p.grad is not None)
    parameter.grad.view(-1)[0] = math.inf
    with pytest.raises(NonFiniteError, match=r"policy/grad_norm is inf, .* s0, s1; no weight has"):
        stage.on_before_optimizer_step(optimizer)
    stage.trainer.precision = "16-mixed"
    stage.on_before_optimizer_step(optimizer)


def test_a_gradient_of_another_network_is_looked_at_too(stage):
    other = torch.nn.Parameter(torch.zeros(2))
    other.grad = torch.tensor([math.nan, 1.0])
    groups = [
        {"network": "policy", "params": list(stage.policy.parameters())},
        {"network": "disc", "params": [other]},
    ]
    with pytest.raises(NonFiniteError, match="disc/grad_norm is nan"):
        stage.on_before_optimizer_step(torch.optim.SGD(groups, lr=0.1))


def test_what_deepspeed_tells_behind_the_step_stops_the_run(stage, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.LightningModule.optimizer_step", lambda self, *_: None)
    stage.step_samples = ["s7"]
    stage.optimizer_step(0, 0, None, None)
    for norm, is_fine in ((None, True), (0.5, True), (math.nan, False)):
        stage.trainer.strategy.model = SimpleNamespace(get_global_grad_norm=lambda n=norm: n)
        if is_fine:
            stage.optimizer_step(0, 0, None, None)
            continue
        with pytest.raises(NonFiniteError, match="global norm is nan, .* s7; the weights"):
            stage.optimizer_step(0, 0, None, None)


def test_a_metric_that_nothing_counted_in_is_no_trouble(stage):
    stage.metrics.add("nothing", 0.0, 0.0)
    stage.metrics.add("broken", math.nan, 1.0)
    assert math.isnan(stage.metrics.reduced()["nothing"])
    assert stage.metrics.not_finite == ["broken"]


class Faulty(Reward):
    """Gives whatever it is told to."""

    name = "faulty"

    def __init__(self, gives):
        super().__init__()
        self.gives = gives

    def __call__(self, response, sample):
        return self.gives()


@pytest.mark.parametrize(
    ("gives", "reason"),
    [
        (lambda: math.nan, "it is nan"),
        (lambda: -math.inf, "it is -inf"),
        (lambda: None, "TypeError"),
        (lambda: "much", "ValueError"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_reward_that_gives_no_number_is_named_with_its_sample(make_sample, gives, reason):
    rewards = [GroundedFormat(), Faulty(gives)]
    with pytest.raises(RewardError, match=rf"'faulty' must .* sample s1, .*'thought'.*: {reason}"):
        reward_breakdown(rewards, "<think>thought</think><answer>B</answer>", make_sample())


def test_a_number_of_another_type_is_a_number(make_sample):
    paid = reward_breakdown([Faulty(lambda: torch.tensor(0.5))], "", make_sample())
    assert paid == {"faulty": 0.5}
    assert type(paid["faulty"]) is float
