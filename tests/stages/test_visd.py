import math
from dataclasses import replace

import pytest
import torch

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.teacher_view import ViewConfig
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
from lit_vdistill.stages.step import StepRecord
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
    how = stage.credit_config
    assert (how.conditioning, how.evidence, how.feedback_as) == ("feedback", evidence, feedback_as)
    assert [call[:3] for call in asked] == [(s, how, "look again") for s in samples]
    assert all(("<obj>dog</obj>" in call[3]) == (evidence == "boxes") for call in asked)


def privileged(stage, sampled):
    text = privileged_text(sampled.groups[0].sample, stage.credit_config, "look again")
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


def apart(stage):
    """Give a stage's teacher other weights than the student's."""
    with torch.no_grad():
        for parameter in stage.ema_teacher.model.language_model.parameters():
            parameter.mul_(1.1)
    return stage


MOVED = torch.tensor([[0.5, -0.9], [0.0, 0.0]])


@pytest.mark.parametrize("support", ["top_k", "sampled_token"])
def test_the_view_is_what_the_step_learnt_from(prepare, two_groups, credit_of, support):
    """And what a replay by hand finds for a teacher that is told all but the judge's words."""
    stage = apart(prepare(visd(support=support, top_k=3, clip=0.99)))
    teacher = stage.ema_teacher
    _, factors, _ = credit_of(stage, two_groups, MOVED, is_viewed=True)
    method = stage.outcomes[0].method
    view, rollout = method.view, two_groups.rollouts[1]
    length = len(rollout.completion_ids)
    assert (view.rollout, view.feedback, view.mix) == (1, "look again", 0.5)
    assert list(view.log_ratio) == method.log_ratio[1, :length].tolist()
    # λ = 0.5: the factor is half of the weight, and a half.
    assert [0.5 + 0.5 * w for w in view.weights] == pytest.approx(factors[1, :length].tolist())
    stage.ema_teacher = teacher
    expected = unjudged_log_ratio(stage, two_groups, 1, 3 if support == "top_k" else None)
    assert list(view.unjudged_log_ratio) == pytest.approx(expected, abs=1e-5)
    assert list(view.log_ratio) != pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("conditioning", ["none", "answer", "evidence"])
def test_no_words_of_a_judge_are_viewed_where_none_were_used(
    prepare, two_groups, credit_of, monkeypatch, conditioning
):
    stage = apart(prepare(visd(conditioning=conditioning)))
    replays = counted_replays(monkeypatch)
    credit_of(stage, two_groups, MOVED, is_viewed=True)
    view = stage.outcomes[0].method.view
    assert (view.feedback, view.unjudged_log_ratio) == (None, None)
    assert len(replays) == 1
    assert any(view.log_ratio)


def test_words_that_a_judge_did_not_find_add_nothing_to_the_view(
    prepare, two_groups, credit_of, monkeypatch
):
    """But all processes make the same calls, whatever their judges found."""
    stage = apart(prepare(visd(Scripted(feedback=None))))
    replays = counted_replays(monkeypatch)
    credit_of(stage, two_groups, MOVED, is_viewed=True)
    view = stage.outcomes[0].method.view
    assert (view.feedback, view.unjudged_log_ratio) == (None, None)
    assert len(replays) == 2


def counted_replays(monkeypatch):
    calls = []

    def counting(*args):
        calls.append(args)
        return completion_logprobs(*args)

    monkeypatch.setattr("lit_vdistill.stages.replay.completion_logprobs", counting)
    return calls


def test_a_view_follows_lambda_within_a_window_and_ends_with_it(prepare, two_groups, credit_of):
    """Δ is of the window's first update; a second one that uses less of it, or nothing, says so."""
    stage = apart(prepare(visd()))
    credit_of(stage, two_groups, MOVED, is_viewed=True)
    outcome = stage.outcomes[0]
    first = outcome.method.view
    stage.credit_mix = 0.25
    stage.policy_loss(two_groups, outcome)
    assert outcome.method.view == replace(first, mix=0.25)
    stage.credit_mix = 0.0
    stage.policy_loss(two_groups, outcome)
    assert outcome.method.view is None


def unjudged_log_ratio(stage, sampled, index, top_k):
    """Δ of a teacher that is told no feedback, on the top K of the one that is; by hand."""
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

    known, told = teacher("evidence", None), teacher("feedback", "look again")
    student = everything(stage.policy, prompt)
    found = []
    for t, token in enumerate(ids[0].tolist()):
        top = told[t].topk(top_k).indices.tolist() if top_k else vocab.tolist()
        support = sorted({*top, token})
        ratio = known[t, token] - known[t, support].logsumexp(0)
        ratio -= student[t, token] - student[t, support].logsumexp(0)
        found.append(ratio.item())
    return found


@pytest.mark.parametrize("support", ["top_k", "sampled_token"])
def test_in_bfloat16_logits_and_both_log_softmaxes_and_their_difference_are_rounded(
    prepare, two_groups, credit_of, support
):
    """Recomputed from whole logits in steps of their own, each rounded."""
    stage = apart(prepare(visd(support=support, top_k=3, dtype="bfloat16", conditioning="answer")))
    with torch.no_grad():  # logits of a trained network's size
        for model in (stage.ema_teacher, stage.policy):
            model.lm_head.weight.mul_(4.0)
    teacher = stage.ema_teacher
    credit_of(stage, two_groups)
    found = stage.outcomes[0].method.log_ratio[0]
    rollout, prompt = two_groups.rollouts[0], two_groups.batch.prompts[0]
    prefix, tail = split_prompt(prompt, stage.processor.tokenizer.eos_token_id)
    text = privileged_text(two_groups.groups[0].sample, Telling("answer"), None)
    context = (*plain_ids(stage.processor, text), *tail)
    ids = rollout.completion_ids
    q = rounded_logits(teacher, prefix, Row(0, ids, context))
    pi = rounded_logits(stage.policy, prompt, Row(0, ids))
    expected = []
    for t, token in enumerate(ids):
        support_ids = list(range(q.shape[1]))
        if support == "top_k":
            support_ids = sorted({*q[t].float().topk(3).indices.tolist(), token})
        place = support_ids.index(token)
        sides = [x[t, support_ids].log_softmax(-1)[place] for x in (q, pi)]
        assert sides[0].dtype == torch.bfloat16
        expected.append((sides[0] - sides[1]).item())
    # A matrix product of another size may round a logit to its neighbour.
    assert found.tolist() == pytest.approx(expected, abs=0.13)
    assert sum(map(float.__eq__, found.tolist(), expected)) >= len(ids) - 2
    in_float32 = prepare(visd(support=support, top_k=3, conditioning="answer"))
    in_float32.policy, in_float32.ema_teacher = stage.policy, teacher
    credit_of(in_float32, two_groups)
    exact = in_float32.outcomes[0].method.log_ratio[0]
    assert not torch.equal(found, exact)
    assert torch.equal(found, found.bfloat16().float())


def rounded_logits(model, prompt, row):
    with torch.no_grad():
        states = completion_states(model.model, [prompt], [row], 0)
        return (states.hidden[0] @ model.lm_head.weight.T).bfloat16()


def test_credit_without_a_bound_is_allowed_and_warned_of(prepare, two_groups, credit_of):
    stage = apart(prepare(visd(clip=None, mix=1.0)))
    _, factors, _ = credit_of(stage, two_groups)
    ratio = stage.outcomes[0].method.log_ratio
    assert ratio[:2].abs().max() > 0.2
    torch.testing.assert_close(factors[0], ratio[0].exp())
    torch.testing.assert_close(factors[1], (-ratio[1]).exp())
    warn = pytest.warns(UserWarning, match="model.credit.clip is null")
    stage.trainer.val_check_batch, stage.trainer.num_training_batches = None, None
    with warn:
        stage.on_train_start()


@pytest.mark.parametrize("clip", [1.0, -0.1])
def test_a_clip_that_could_turn_signs_is_refused_when_it_is_configured(clip):
    with pytest.raises(ValueError, match=r"credit\.clip .*: expected 0 <= clip < 1"):
        CreditConfig(clip=clip)


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


def bytes_of(network):
    return sum(p.untyped_storage().nbytes() for p in network.parameters())


def test_at_lambda_0_the_teachers_weights_are_given_back(prepare, batch_of):
    """Whoever else still holds its parameters, as DDP does; and its float32 weights with them."""
    stage = prepare(visd(policy=replace(POLICY, dtype="bfloat16")))
    held = list(stage.ema_teacher.parameters())
    stage.update_teacher(0.5)
    network, master = bytes_of(stage.policy), sum(t.nbytes for t in stage._ema.master.values())
    assert master == 2 * network
    turn = WindowTurn(batch_of(["B"]), piece=1, num_pieces=2)
    stage.credit_mix = 0.0
    stage.on_train_batch_start(turn, 1)  # within a step
    assert bytes_of(stage.ema_teacher) == network
    stage.credit_mix = 0.1
    stage.on_train_batch_start(WindowTurn(batch_of(["B"])), 2)
    assert bytes_of(stage.ema_teacher) == network
    stage.credit_mix = 0.0
    stage.on_train_batch_start(WindowTurn(batch_of(["B"])), 2)
    assert sum(p.untyped_storage().nbytes() for p in held) == 0
    assert bytes_of(stage.policy) == network
    assert (stage.ema_teacher, stage._ema.state()) == (None, {})
    assert not [name for name in stage.state_dict() if name.startswith("ema_teacher")]
    stage.update_teacher(0.5)  # `EMATeacherUpdate` goes on


def test_a_run_that_goes_on_from_behind_lambda_0_has_no_teacher(prepare):
    before, behind = prepare(visd()), prepare(visd())
    behind.free_teacher()
    for saved in (before, behind):
        resumed = prepare(visd())
        resumed.load_state_dict(saved.state_dict())
        assert (resumed.ema_teacher is None) == (saved is behind)
    with pytest.raises(RuntimeError, match="Missing key"):
        prepare(visd()).load_state_dict(
            {k: v for k, v in before.state_dict().items() if k != "ema_teacher.lm_head.weight"}
        )


def test_a_lambda_that_rises_again_finds_no_teacher(prepare, two_groups, credit_of):
    stage = prepare(visd())
    stage.free_teacher()
    with pytest.raises(RuntimeError, match="λ is 0.5 again at step 0"):
        credit_of(stage, two_groups)


def test_a_window_goes_on_at_lambda_0_with_what_it_has_kept(prepare, two_groups, credit_of):
    """Between two updates λ reaches 0, the run stops and goes on, and the teacher is gone."""
    stage = prepare(visd())
    credit_of(stage, two_groups)
    kept = stage.outcomes[0].method.state()
    stage.credit_mix = 0.0
    stage.free_teacher()
    method = stage.start_method(two_groups, ADVANTAGES.flatten(), kept)
    outcome = replace(stage.outcomes[0], method=method)
    stage.policy_loss(two_groups, outcome).backward()
    assert torch.equal(method.log_ratio, kept["log_ratio"])


def with_views(experience, views):
    items = [replace(i, view=v) for i, v in zip(experience.batch.items, views, strict=True)]
    return replace(experience, batch=PromptBatch(tuple(items)))


@pytest.mark.parametrize("conditioning", ["none", "feedback"])
@pytest.mark.parametrize("support", ["top_k", "sampled_token"])
def test_with_the_students_own_view_it_is_the_plain_replay(
    prepare, two_groups, credit_of, conditioning, support
):
    """To the bit, also where one of two groups is seen plain."""
    stage = prepare(visd(conditioning=conditioning, support=support, view=ViewConfig()))
    advantages = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    plain, own = (credit_of(stage, two_groups, advantages)[1], two_groups.batch.prompts)
    for views in (own, (own[0], None), (None, None)):
        _, factors, _ = credit_of(stage, with_views(two_groups, views), advantages)
        assert torch.equal(factors, plain)


def test_a_teacher_that_sees_another_video_credits_otherwise(
    prepare, two_groups, credit_of, make_prompt
):
    """What it knows is nothing: all comes from what it sees, for that group alone."""
    stage = prepare(visd(conditioning="none", view=ViewConfig()))
    other = make_prompt(stage.processor, "another clip", frames=4)
    advantages = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    _, factors, _ = credit_of(stage, with_views(two_groups, (other, None)), advantages)
    assert factors[:2].sub(1).abs().max() > 1e-3
    torch.testing.assert_close(factors[2:], torch.ones_like(factors[2:]), atol=1e-5, rtol=0)


def test_observers_keep_no_views(prepare, two_groups, credit_of):
    stage = prepare(visd(view=ViewConfig()))
    seen = with_views(two_groups, two_groups.batch.prompts)
    credit_of(stage, seen)
    record = StepRecord.of(0, stage.window, stage.outcomes)
    assert all(item.view is None for item in record.experience.batch.items)
    assert all(prompt.pixels is None for prompt in record.experience.batch.prompts)


def test_a_teacher_that_may_see_more_looks_at_every_piece(prepare, batch_of, sampled_of, credit_of):
    """Once, whether a piece has views or not: other processes may have some, and share a tower."""
    policy = VLMConfig("tiny/qwen3-vl", freeze_vision=True)
    stage = prepare(visd(policy=policy, view=ViewConfig()))
    batch = stage.looked(batch_of(["B"], ["B"]))
    sampled = sampled_of(REWARDS, batch, [RIGHT, WRONG], [WRONG, RIGHT])
    advantages, calls = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), []
    stage.ema_teacher.model.visual.register_forward_hook(lambda *_: calls.append(1))
    own = [replace(prompt, features=None) for prompt in batch.prompts]
    found = []
    for views in ((None, None), (own[0], None), own):
        found.append(credit_of(stage, with_views(sampled, views), advantages)[1])
        assert len(calls) == len(found)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
