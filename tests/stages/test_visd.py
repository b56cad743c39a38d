import math
from dataclasses import replace

import pytest
import torch

from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import HeadRequest, completion_logprobs
from lit_vdistill.models.prompt import split_prompt
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Answer, GroundedFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.on_policy import OnPolicyModule, PolicyLossConfig
from lit_vdistill.stages.replay import CreditConfig
from lit_vdistill.stages.visd import VISDModule

RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>t</think><answer>A</answer>"
REWARDS = [Answer(), GroundedFormat()]
POLICY = VLMConfig("tiny/qwen3-vl")


class Scripted:
    """A judge that says what it is told to and remembers what it was asked."""

    identity = "scripted"

    def __init__(self, feedback="look again"):
        self.feedback, self.cases = feedback, []

    def diagnose(self, cases):
        self.cases += cases
        return [self.feedback] * len(cases)


def visd(judge=None, policy=POLICY, **credit):
    torch.manual_seed(0)
    return VISDModule(
        policy,
        REWARDS,
        credit=CreditConfig(**credit),
        judge=judge or Scripted(),
        loss=PolicyLossConfig(group_size=2, kl_coef=0.0),
        sampling=SamplingConfig(max_completion_tokens=6),
    )


@pytest.fixture
def two_groups(batch_of, sampled_of):
    """One group with a winner, one in which both are alike."""
    batch = batch_of(["B"], ["B"])
    return sampled_of(REWARDS, batch, [RIGHT, WRONG], [RIGHT, RIGHT])


ADVANTAGES = torch.tensor([[1.0, -1.0], [0.0, 0.0]])


def credit_of(stage, sampled, advantages=ADVANTAGES):
    """Factors and metrics as `policy_loss` gets them."""
    seen = []
    stock = stage.start_credit

    def start(sampled, advantages):
        credit = stock(sampled, advantages)
        weigh = credit.weigh
        credit.weigh = lambda scores: seen.append(weigh(scores)) or seen[-1]
        return credit

    stage.start_credit = start
    loss, _ = stage.policy_loss(sampled, sampled.batch.prompts, advantages)
    stage.start_credit = stock
    return loss, *seen[0]


@pytest.mark.parametrize("support", ["top_k", "sampled_token"])
def test_a_teacher_that_is_the_student_and_knows_nothing_gives_one(prepare, two_groups, support):
    """r = "" and equal weights: Δ is exactly 0, so the replay is aligned token by token.

    Where a group is left out, rounding of matrix products of another size remains.
    """
    stage = prepare(visd(conditioning="none", support=support))
    _, factors, metrics = credit_of(stage, two_groups, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert (factors == 1).all()
    assert metrics["credit/abs_log_ratio"] == 0.0
    _, factors, metrics = credit_of(stage, two_groups)
    torch.testing.assert_close(factors, torch.ones_like(factors), atol=1e-5, rtol=0)
    assert metrics["credit/abs_log_ratio"] < 1e-5


@pytest.mark.parametrize("support", ["top_k", "sampled_token"])
def test_credit_follows_what_the_teacher_knows(prepare, two_groups, support):
    stage = prepare(visd(support=support, mix=0.5, clip=0.2))
    _, factors, metrics = credit_of(stage, two_groups)
    active = factors[:2]
    assert active.min() >= 0.9 - 1e-6
    assert active.max() <= 1.1 + 1e-6
    assert active.std() > 0
    assert (factors[2:] == 1).all()
    assert metrics["credit/abs_log_ratio"] > 0
    assert metrics["judge/rollouts"] == 2.0
    assert metrics["judge/failures"] == 0.0


def test_the_log_ratio_is_the_papers_on_whole_logits(prepare, two_groups):
    """Δ of one rollout, recomputed from a plain forward over the teacher's own sequence."""
    stage = prepare(visd(top_k=3, mix=1.0, clip=0.99))
    with torch.no_grad():
        for parameter in stage.ema_teacher.model.language_model.parameters():
            parameter.mul_(1.1)
    _, factors, _ = credit_of(stage, two_groups)
    rollout = two_groups.groups[0].rollouts[0]
    prompt, ids = two_groups.batch.prompts[0], torch.tensor(rollout.completion_ids)
    prefix, tail = split_prompt(prompt, stage.processor.tokenizer.eos_token_id)
    told = privileged(stage, two_groups)
    vocab = torch.arange(stage.policy.config.get_text_config().vocab_size)
    everything = vocab.expand(1, len(ids), -1)
    with torch.no_grad():
        q = completion_logprobs(
            stage.ema_teacher, [prefix], [Row(0, rollout.completion_ids, (*told, *tail))],
            HeadRequest(chosen_ids=everything),
        ).chosen_logprobs[0].exp()  # fmt: skip
        pi = completion_logprobs(
            stage.policy, [prompt], [Row(0, rollout.completion_ids)],
            HeadRequest(chosen_ids=everything),
        ).chosen_logprobs[0].exp()  # fmt: skip
    for t, token in enumerate(ids.tolist()):
        support = list({*q[t].topk(3).indices.tolist(), token})
        ratio = q[t, token] / q[t, support].sum() * pi[t, support].sum() / pi[t, token]
        expected = min(max(ratio.item(), 0.01), 1.99)
        assert factors[0, t].item() == pytest.approx(expected, rel=1e-3)


def privileged(stage, sampled):
    from lit_vdistill.models.tokens import plain_ids
    from lit_vdistill.responses.prompts import privileged_text

    text = privileged_text(sampled.groups[0].sample, "feedback", "look again")
    for part in ("<answer>B</answer>", "<t>2.0</t>s to <t>8.0</t>s", "<obj>dog</obj>", "look"):
        assert part in text
    return plain_ids(stage.processor, text)


def test_without_mixing_it_is_grpo_to_the_bit(batch_of, prepare):
    """λ = 0: neither judge nor teacher is called, and the gradients are equal."""
    judge = Scripted()
    ours = visd(judge)
    torch.manual_seed(0)
    grpo = OnPolicyModule(
        POLICY,
        REWARDS,
        loss=PolicyLossConfig(group_size=2, kl_coef=0.0),
        sampling=SamplingConfig(max_completion_tokens=6),
    )
    batch = batch_of(["B"], ["A"])
    for stage in (ours, grpo):
        torch.manual_seed(0)
        prepare(stage)
    ours.credit_mix = 0.0
    ours.ema_teacher = None
    for stage in (ours, grpo):
        stage.training_step(batch, 0).backward()
    for one, other in zip(ours.policy.parameters(), grpo.policy.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert judge.cases == []


def test_groups_without_signal_cost_nothing(prepare, two_groups, monkeypatch):
    judge = Scripted()
    stage = prepare(visd(judge))
    calls = []
    stock = type(stage.ema_teacher.model.language_model).forward
    teacher = stage.ema_teacher.model.language_model

    def counting(self, *args, **kwargs):
        calls.append(self is teacher)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(type(teacher), "forward", counting)
    credit_of(stage, two_groups)
    assert [case.text for case in judge.cases] == [RIGHT, WRONG]
    assert sum(calls) == 1
    judge.cases.clear()
    calls.clear()
    _, factors, metrics = credit_of(stage, two_groups, torch.zeros(2, 2))
    assert judge.cases == []
    assert sum(calls) == 0
    assert (factors == 1).all()
    # Other processes of the same step have groups with a signal: keys that differ hang the log.
    _, _, others = credit_of(stage, two_groups)
    assert metrics.keys() == others.keys()
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_judge_that_fails_leaves_answer_and_evidence(prepare, two_groups):
    failing, told = Scripted(feedback=None), prepare(visd(conditioning="evidence"))
    stage = prepare(visd(failing))
    _, with_failure, metrics = credit_of(stage, two_groups)
    _, with_evidence, _ = credit_of(told, two_groups)
    assert metrics["judge/failures"] == 1.0
    assert torch.equal(with_failure, with_evidence)
    _, with_feedback, _ = credit_of(prepare(visd()), two_groups)
    assert not torch.equal(with_feedback, with_evidence)


def test_credit_carries_no_gradient_into_the_teacher(prepare, two_groups):
    stage = prepare(visd())
    loss, factors, _ = credit_of(stage, two_groups)
    assert not factors.requires_grad
    loss.backward()
    assert all(p.grad is None for p in stage.ema_teacher.parameters())
    assert all(p.grad is not None for p in stage.policy.parameters())


def test_the_teacher_shares_a_frozen_tower(batch_of, prepare, monkeypatch):
    stage = prepare(visd(policy=replace(POLICY, freeze_vision=True)))
    tower = type(stage.policy.model.visual)
    looks = []
    stock = tower.forward
    monkeypatch.setattr(tower, "forward", lambda *a, **k: looks.append(1) or stock(*a, **k))
    monkeypatch.setattr(stage, "rule_rewards", lambda sampled: torch.tensor([[1.0, 0.0]]))
    stage.training_step(batch_of(["B"]), 0).backward()
    assert len(looks) == 1
