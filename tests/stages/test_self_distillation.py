import pytest
import torch

from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import HeadRequest, completion_logprobs
from lit_vdistill.models.prompt import split_prompt
from lit_vdistill.models.tokens import plain_ids
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.divergence import divergence
from lit_vdistill.responses.prompts import Telling, privileged_text
from lit_vdistill.rewards import Answer, GroundedFormat
from lit_vdistill.stages import OnPolicyModule, SelfDistillationModule
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.self_distillation import SelfDistillConfig

POLICY = VLMConfig("tiny/qwen3-vl", verify_shared_prefix="never")
REWARDS = [Answer(), GroundedFormat()]
RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>a red dog runs</think><answer>A</answer>"
TEXTS = {"s0": [RIGHT, WRONG], "s1": [WRONG, RIGHT]}
PROMPTS = ({"kind": "video"}, {"kind": "text", "question": "Which of the two was seen first?"})


class Scripted:
    """A judge that fails on what is right and remembers what it was asked."""

    identity = "scripted"

    def __init__(self):
        self.asked = []

    def diagnose(self, cases):
        self.asked += [case.text for case in cases]
        return [None if case.text == RIGHT else "the answer is wrong" for case in cases]


@pytest.fixture
def stage_of(prepare, script):
    """A stage whose policy samples the texts; its teacher is as it was before that moved."""

    def build(kind=SelfDistillationModule, *, has_moved=True, reduction="token_mean", **options):
        torch.manual_seed(0)
        loss = PolicyLossConfig(group_size=2, kl_coef=0.0, reduction=reduction)
        stage = prepare(kind(POLICY, REWARDS, loss=loss, **options))
        if has_moved:
            with torch.no_grad():
                for parameter in stage.policy.parameters():
                    parameter.mul_(1.05)
        return script(stage, TEXTS)

    return build


@pytest.fixture
def batch(batch_of):
    return batch_of(["B"], ["B"], prompts=PROMPTS)


def gradients(stage):
    return {name: p.grad.clone() for name, p in stage.policy.named_parameters()}


@pytest.mark.parametrize("kind", ["reverse", "jensen_shannon"])
def test_a_self_that_is_told_nothing_teaches_nothing(stage_of, batch, take_step, kind):
    distill = SelfDistillConfig(divergence=kind, conditioning="none")
    stage = stage_of(has_moved=False, distill=distill)
    assert abs(take_step(stage, batch)["train/loss"]) < 1e-6
    assert all(gradient.abs().max() < 1e-6 for gradient in gradients(stage).values())


@pytest.mark.parametrize("conditioning", ["evidence", "feedback"])
def test_the_loss_is_the_divergence_from_the_self_that_is_told(
    stage_of, batch, take_step, conditioning
):
    """By hand on the whole vocabulary; feedback is told of where the judge has some."""
    distill = SelfDistillConfig(coef=0.5, divergence="jensen_shannon", conditioning=conditioning)
    judge = Scripted()
    stage = stage_of(distill=distill, judge=judge)
    values = take_step(stage, batch)
    total, tokens = 0.0, 0
    vocab = torch.arange(stage.policy.config.get_text_config().vocab_size)
    for group, prompt in zip(stage.window.experience.groups, batch.prompts, strict=True):
        for rollout in group.rollouts:
            words = "the answer is wrong" if rollout.text == WRONG else None
            text = privileged_text(group.sample, Telling(conditioning), words)
            prefix, tail = split_prompt(prompt, stage.processor.tokenizer.eos_token_id)
            told = Row(0, rollout.completion_ids, (*plain_ids(stage.processor, text), *tail))
            size = len(rollout.completion_ids)
            request = HeadRequest(chosen_ids=vocab.expand(1, size, -1))
            with torch.no_grad():
                student, teacher = (
                    completion_logprobs(model, [begin], [row], request).chosen_logprobs[0]
                    for model, begin, row in (
                        (stage.policy, prompt, Row(0, rollout.completion_ids)),
                        (stage.ema_teacher, prefix, told),
                    )
                )
            total += divergence(student, teacher, "jensen_shannon").sum().item()
            tokens += size
    assert values["distill/divergence"] == pytest.approx(total / tokens, rel=1e-4)
    assert values["train/loss"] == pytest.approx(0.5 * total / tokens, rel=1e-4)
    assert total / tokens > 1e-3
    asked = [text for texts in TEXTS.values() for text in texts]
    assert judge.asked == (asked if conditioning == "feedback" else [])
    assert values.get("judge/failures") == (0.5 if judge.asked else None)
    assert all(p.grad is None for p in stage.ema_teacher.parameters())


def test_without_divergence_it_is_grpo_to_the_bit(stage_of, batch, take_step):
    """Neither teacher nor judge is there."""
    distill, judge = SelfDistillConfig(coef=0.0, reward_weight=1.0), Scripted()
    found = []
    for kind, options in (
        (SelfDistillationModule, {"distill": distill, "judge": judge}),
        (OnPolicyModule, {}),
    ):
        stage = stage_of(kind, reduction="sequence_mean", **options)
        found.append((take_step(stage, batch, 2)["train/loss"], gradients(stage)))
        assert getattr(stage, "ema_teacher", None) is None
    (loss, ours), (other_loss, grpo) = found
    assert loss == other_loss
    assert all(torch.equal(gradient, grpo[name]) for name, gradient in ours.items())
    assert any(gradient.abs().max() > 0 for gradient in grpo.values())
    assert judge.asked == []


def test_divergence_and_reward_add_up(stage_of, batch, take_step):
    found = {}
    for coef, weight in ((0.5, 0.0), (0.0, 2.0), (0.5, 2.0)):
        distill = SelfDistillConfig(coef=coef, reward_weight=weight, conditioning="feedback")
        stage = stage_of(distill=distill, judge=Scripted())
        take_step(stage, batch)
        found[coef, weight] = gradients(stage)
    for name, both in found[0.5, 2.0].items():
        apart = found[0.5, 0.0][name] + found[0.0, 2.0][name]
        torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-6)


def test_nobody_is_asked_about_a_piece_that_is_empty(stage_of, batch, take_step):
    judge = Scripted()
    stage = stage_of(distill=SelfDistillConfig(conditioning="feedback"), judge=judge)
    take_step(stage, batch, num_pieces=5)
    assert sorted(judge.asked) == sorted([RIGHT, WRONG] * 2)


def test_the_self_stays_unless_it_is_moved(stage_of, batch, take_step):
    stage = stage_of(distill=SelfDistillConfig())
    start = stage.ema_teacher.lm_head.weight.clone()
    take_step(stage, batch)
    assert torch.equal(stage.ema_teacher.lm_head.weight, start)
    stage.update_teacher(0.25)
    expected = torch.lerp(start, stage.policy.lm_head.weight, 0.25)
    torch.testing.assert_close(stage.ema_teacher.lm_head.weight, expected)


def test_a_second_update_of_a_window_is_refused():
    loss = PolicyLossConfig(group_size=2, kl_coef=0.0, updates_per_rollout=2)
    with pytest.raises(ValueError, match=r"SelfDistillationModule needs loss\.updates_per_rollout"):
        SelfDistillationModule(POLICY, REWARDS, loss=loss)


def test_a_step_moves_the_student_towards_what_it_was_told(stage_of, batch):
    """The divergence falls along its own gradient."""
    stage = stage_of(distill=SelfDistillConfig(conditioning="evidence"))
    losses = []
    for _ in range(2):
        stage.zero_grad()
        loss = stage.training_step(WindowTurn(batch), 0)
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for parameter in stage.policy.parameters():
                parameter -= 0.05 * parameter.grad
    assert losses[1] < losses[0]
