import pytest
import torch

from callbacks import LambdaAnnealing
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Answer, GroundedFormat
from lit_vdistill.stages import ImprobableTokensModule, OnPolicyModule
from lit_vdistill.stages.improbable_tokens import ImprobableConfig
from lit_vdistill.stages.policy_loss import PolicyLossConfig

POLICY = VLMConfig("tiny/qwen3-vl", verify_shared_prefix="never")
REWARDS = [Answer(), GroundedFormat()]
RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>a red dog runs</think><answer>A</answer>"
TEXTS = {"s0": [RIGHT, WRONG], "s1": [WRONG, RIGHT]}
PROMPTS = ({"kind": "video"}, {"kind": "text", "question": "Which of the two was seen first?"})
MEDIAN = 1.0 / 1200
"""Near what random weights find probable of each of 900 tokens: some are above, some below."""


@pytest.fixture
def stage_of(prepare, script):
    def build(kind=ImprobableTokensModule, **options):
        torch.manual_seed(0)
        loss = PolicyLossConfig(group_size=2, kl_coef=0.0)
        return script(prepare(kind(POLICY, REWARDS, loss=loss, **options)), TEXTS)

    return build


@pytest.fixture
def batch(batch_of):
    return batch_of(["B"], ["B"], prompts=PROMPTS)


def gradients(stage):
    return {name: p.grad.clone() for name, p in stage.policy.named_parameters()}


@pytest.mark.parametrize("credit", [ImprobableConfig(mix=0.0), ImprobableConfig(clip=0.0)])
def test_without_weight_it_is_grpo_to_the_bit(stage_of, batch, take_step, credit):
    ours, plain = stage_of(improbable=credit), stage_of(OnPolicyModule)
    assert take_step(ours, batch)["train/loss"] == take_step(plain, batch)["train/loss"]
    expected = gradients(plain)
    assert all(torch.equal(found, expected[name]) for name, found in gradients(ours).items())


def test_a_token_that_was_improbable_has_more_of_its_rollouts_advantage(stage_of, batch, take_step):
    """Whichever way the advantage goes; by hand, token by token."""
    stage = stage_of(improbable=ImprobableConfig(mix=0.5, clip=0.4, below=MEDIAN))
    values = take_step(stage, batch)
    experience = stage.window.experience
    total, improbable, tokens = 0.0, 0, 0
    for group, prompt in zip(experience.groups, batch.prompts, strict=True):
        for rollout, advantage in zip(group.rollouts, (1.0, -1.0), strict=True):
            sign = advantage if group.sample.id == "s0" else -advantage
            row = Row(0, rollout.completion_ids)
            with torch.no_grad():
                logprobs = completion_logprobs(stage.policy, [prompt], [row]).logprobs[0]
            is_improbable = logprobs.exp() < MEDIAN
            factors = torch.where(is_improbable, 1.0 + 0.5 * 0.4, 1.0)
            total -= (sign * factors).mean().item()
            improbable, tokens = improbable + int(is_improbable.sum()), tokens + len(logprobs)
    assert 0 < improbable < tokens
    assert values["credit/improbable"] == pytest.approx(improbable / tokens)
    # Two siblings with different rewards are one standard deviation (of the sample) apart.
    size = 2**-0.5
    assert values["train/loss"] == pytest.approx(size * total / 4, rel=1e-3)


def test_its_lambda_is_annealed_as_vsids(stage_of, batch, take_step):
    stage = stage_of()
    stage.trainer.global_step = 30
    LambdaAnnealing(num_steps=60).on_train_batch_start(stage.trainer, stage, None, 0)
    assert stage.credit_mix == 0.25
    assert take_step(stage, batch)["credit/lambda"] == 0.25


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"clip": -0.1}, "improbable.clip"),
        ({"clip": float("nan")}, "improbable.clip"),
        ({"below": 0.0}, "improbable.below"),
        ({"below": 1.1}, "improbable.below"),
    ],
)
def test_what_is_no_share_is_refused(values, named):
    with pytest.raises(ValueError, match=named):
        ImprobableConfig(**values)


def test_it_takes_one_update_a_window():
    with pytest.raises(ValueError, match="updates_per_rollout"):
        ImprobableTokensModule(
            POLICY, REWARDS, loss=PolicyLossConfig(group_size=2, updates_per_rollout=2)
        )
