import math
from dataclasses import replace

import pytest
import torch

from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.forward import completion_states, pad_token_id
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import HeadRequest, completion_logprobs
from lit_vdistill.models.prompt import split_prompt
from lit_vdistill.models.tokens import plain_ids
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.responses.prompts import Telling, privileged_text
from lit_vdistill.rewards import Answer, GroundedFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import replay
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


@pytest.fixture
def credit_of(window_of, outcome_of):
    """Loss, factors and metrics of an update of a piece."""

    def build(stage, sampled, advantages=ADVANTAGES, is_viewed=False):
        window_of(stage, sampled)
        stage.wants_view = is_viewed
        outcome = outcome_of(stage, sampled, advantages)
        stage.outcomes = [outcome]
        seen, stock = [], outcome.method.terms
        outcome.method.terms = lambda *args: seen.append(stock(*args)) or seen[-1]
        loss = stage.policy_loss(sampled, outcome)
        return loss, seen[0].factors, stage.metrics.reduced()

    return build


@pytest.mark.parametrize("support", ["top_k", "sampled_token"])
def test_a_teacher_that_is_the_student_and_knows_nothing_gives_one(
    prepare, two_groups, support, credit_of
):
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
def test_credit_follows_what_the_teacher_knows(prepare, two_groups, support, credit_of):
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


def test_the_log_ratio_is_the_papers_on_whole_logits(prepare, two_groups, credit_of):
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


@pytest.mark.parametrize("evidence", ["times", "boxes"])
@pytest.mark.parametrize("feedback_as", ["correction", "earlier_answer"])
def test_the_teacher_is_told_what_the_credit_says(prepare, two_groups, evidence, feedback_as):
    """Behind each rollout's question, up to the end of its turn."""
    stage = prepare(visd(evidence=evidence, feedback_as=feedback_as))
    telling = Telling("feedback", evidence, feedback_as)
    asked = []
    stock = replay.privileged_text
    method = stage.start_method(two_groups, torch.tensor([0.0, 1.0, 1.0, 0.0]), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            replay, "privileged_text", lambda *args: asked.append((*args, stock(*args))) or ""
        )
        states = completion_states(
            stage.policy.model, two_groups.batch.prompts, two_groups.rows,
            pad_token_id(stage.policy),
        )  # fmt: skip
        method.request(states)
    samples = [group.sample for group in two_groups.groups]
    assert [call[:3] for call in asked] == [(s, telling, "look again") for s in samples]
    assert all(("<obj>dog</obj>" in call[3]) == (evidence == "boxes") for call in asked)


def privileged(stage, sampled):
    text = privileged_text(sampled.groups[0].sample, stage.credit_config.telling, "look again")
    for part in ("<answer>B</answer>", "look again"):
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
        stage.training_step(WindowTurn(batch), 0).backward()
    for one, other in zip(ours.policy.parameters(), grpo.policy.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert judge.cases == []


def test_groups_without_signal_cost_nothing(prepare, two_groups, monkeypatch, credit_of):
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
    assert metrics["judge/rollouts"] == 0.0
    # Nothing was counted, which is not a value of 0.
    unknown = {name for name, value in metrics.items() if math.isnan(value)}
    sides = {"credit/weight_better", "credit/weight_worse"}
    assert unknown == {"credit/abs_log_ratio", "judge/failures", *sides}


def test_a_row_that_is_replayed_for_others_sake_is_not_judged(
    prepare, two_groups, credit_of, monkeypatch
):
    """A sharded teacher is gathered by all processes, whether or not they have a signal."""
    monkeypatch.setattr("lit_vdistill.stages.visd.is_sharded", lambda model: True)
    judge = Scripted()
    stage = prepare(visd(judge))
    _, factors, metrics = credit_of(stage, two_groups, torch.zeros(2, 2))
    assert stage.outcomes[0].method.active == [0]
    assert judge.cases == []
    assert metrics["judge/rollouts"] == 0.0
    assert (factors[2:] == 1).all()


def test_a_judge_that_fails_leaves_answer_and_evidence(prepare, two_groups, credit_of):
    failing, told = Scripted(feedback=None), prepare(visd(conditioning="evidence"))
    stage = prepare(visd(failing))
    _, with_failure, metrics = credit_of(stage, two_groups)
    _, with_evidence, _ = credit_of(told, two_groups)
    assert metrics["judge/failures"] == 1.0
    assert torch.equal(with_failure, with_evidence)
    _, with_feedback, _ = credit_of(prepare(visd()), two_groups)
    assert not torch.equal(with_feedback, with_evidence)


def test_credit_carries_no_gradient_into_the_teacher(prepare, two_groups, credit_of):
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
    stage.training_step(WindowTurn(batch_of(["B"])), 0).backward()
    assert len(looks) == 1


@pytest.mark.parametrize("support", ["top_k", "sampled_token"])
def test_the_view_is_what_the_step_learnt_from(prepare, two_groups, credit_of, support):
    """And it shows beside it what a replay by hand finds for a teacher that knows the answer."""
    stage = prepare(visd(support=support, top_k=3, clip=0.99))
    with torch.no_grad():
        for parameter in stage.ema_teacher.model.language_model.parameters():
            parameter.mul_(1.1)
    _, factors, _ = credit_of(
        stage, two_groups, torch.tensor([[0.5, -0.9], [0.0, 0.0]]), is_viewed=True
    )
    method = stage.outcomes[0].method
    view, rollout = method.view, two_groups.rollouts[1]
    length = len(rollout.completion_ids)
    assert (view.rollout, view.feedback) == (1, "look again")
    assert list(view.feedback_log_ratio) == method.log_ratio[1, :length].tolist()
    # λ = 0.5: the factor is half of the weight, and a half.
    assert [0.5 + 0.5 * w for w in view.weights] == pytest.approx(factors[1, :length].tolist())
    expected = answer_log_ratio(stage, two_groups, 1, 3 if support == "top_k" else None)
    assert list(view.answer_log_ratio) == pytest.approx(expected, abs=1e-5)
    assert list(view.feedback_log_ratio) != pytest.approx(expected, abs=1e-2)
    judged = [told - known for told, known in zip(view.feedback_log_ratio, expected, strict=True)]
    assert list(view.judge_log_ratio) == pytest.approx(judged, abs=1e-5)


def answer_log_ratio(stage, sampled, index, top_k):
    """Δ of a teacher that knows the answer, on the top K of the one that knows more; by hand."""
    rollout, prompt = sampled.rollouts[index], sampled.batch.prompts[0]
    ids = torch.tensor([rollout.completion_ids])
    vocab = torch.arange(stage.policy.config.get_text_config().vocab_size)
    request = HeadRequest(chosen_ids=vocab.expand(1, ids.shape[1], -1))
    prefix, tail = split_prompt(prompt, stage.processor.tokenizer.eos_token_id)

    def everything(model, prompt, context=()):
        with torch.no_grad():
            row = Row(0, rollout.completion_ids, context)
            return completion_logprobs(model, [prompt], [row], request).chosen_logprobs[0]

    def teacher(conditioning, feedback):
        telling = Telling(conditioning)
        text = privileged_text(sampled.groups[0].sample, telling, feedback)
        context = (*plain_ids(stage.processor, text), *tail)
        return everything(stage.ema_teacher, prefix, context)

    known, told = teacher("answer", None), teacher("feedback", "look again")
    student = everything(stage.policy, prompt)
    found = []
    for t, token in enumerate(ids[0].tolist()):
        top = told[t].topk(top_k).indices.tolist() if top_k else vocab.tolist()
        support = sorted({*top, token})
        ratio = known[t, token] - known[t, support].logsumexp(0)
        ratio -= student[t, token] - student[t, support].logsumexp(0)
        found.append(ratio.item())
    return found


def test_asking_for_a_view_changes_no_bit_of_a_gradient(prepare, two_groups, credit_of):
    found = []
    for is_viewed in (False, True):
        stage = prepare(visd())
        loss, _, metrics = credit_of(stage, two_groups, is_viewed=is_viewed)
        loss.backward()
        found.append((loss, metrics, [p.grad for p in stage.policy.parameters()]))
        assert (stage.outcomes[0].method.view is not None) == is_viewed
    (loss, metrics, grads), (other_loss, other_metrics, other_grads) = found
    assert torch.equal(loss, other_loss)
    assert metrics == other_metrics
    assert all(torch.equal(one, other) for one, other in zip(grads, other_grads, strict=True))


def test_the_judge_is_asked_about_no_piece_that_is_empty(prepare, script, batch_of, take_step):
    judge = Scripted()
    stage = script(prepare(visd(judge)), {"s0": [RIGHT, WRONG]})
    take_step(stage, batch_of(["B"]), num_pieces=3)
    assert [case.text for case in judge.cases] == [RIGHT, WRONG]
