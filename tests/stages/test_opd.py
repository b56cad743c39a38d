import json
from dataclasses import replace

import pytest
import torch

from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.vlm import VLMConfig, check_same_tokens
from lit_vdistill.rewards import Answer, GroundedFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import OnPolicyModule, OPDModule
from lit_vdistill.stages.on_policy import PolicyLossConfig
from lit_vdistill.stages.opd import DistillConfig

POLICY = VLMConfig("tiny/qwen3-vl")
REWARDS = [Answer(), GroundedFormat()]
SHARED = {
    "loss": PolicyLossConfig(group_size=2, kl_coef=0.0),
    "sampling": SamplingConfig(max_completion_tokens=6),
}


@pytest.fixture
def opd(prepare):
    """An OPD stage; its teacher is the student unless told to be another."""

    def build(policy=POLICY, teacher=None, **distill):
        torch.manual_seed(0)
        config = DistillConfig(**distill)
        stage = prepare(OPDModule(policy, REWARDS, teacher or policy, distill=config, **SHARED))
        if stage.teacher is not None and teacher is None:
            stage.teacher.load_state_dict(stage.policy.state_dict())
        return stage

    return build


def gradients(stage, batch):
    stage.zero_grad()
    loss = stage.training_step(WindowTurn(batch), 0)
    loss.backward()
    return loss, {name: p.grad.clone() for name, p in stage.policy.named_parameters()}


@pytest.mark.parametrize("top_k", [0, 5])
@pytest.mark.parametrize("kind", ["reverse", "forward", "jensen_shannon"])
def test_a_teacher_that_is_the_student_teaches_nothing(opd, batch_of, kind, top_k):
    stage = opd(divergence=kind, top_k=top_k)
    loss, found = gradients(stage, batch_of(["B"], ["A"]))
    assert abs(loss.item()) < 1e-6
    assert all(gradient.abs().max() < 1e-6 for gradient in found.values())


def test_on_all_words_the_top_k_is_the_vocabulary(opd, batch_of):
    size = opd().policy.config.get_text_config().vocab_size
    batch, other = batch_of(["B"]), VLMConfig("tiny/qwen3-vl/4m")
    whole, expected = gradients(opd(teacher=other), batch)
    top, found = gradients(opd(teacher=other, top_k=size), batch)
    part, _ = gradients(opd(teacher=other, top_k=size // 2), batch)
    torch.testing.assert_close(top, whole, rtol=1e-5, atol=0)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
    assert 0 < part < whole


def test_without_divergence_it_is_grpo_to_the_bit(opd, prepare, batch_of, monkeypatch):
    ours = opd(coef=0.0, reward_weight=1.0)
    assert ours.teacher is None
    torch.manual_seed(0)
    grpo = prepare(OnPolicyModule(POLICY, REWARDS, **SHARED))
    batch = batch_of(["B"], ["A"])
    rewards = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    for stage in (ours, grpo):
        monkeypatch.setattr(stage, "rule_rewards", lambda experience: rewards)
    (one, found), (other, expected) = gradients(ours, batch), gradients(grpo, batch)
    assert torch.equal(one, other)
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert any(gradient.abs().max() > 0 for gradient in expected.values())


def test_rewards_and_divergence_add_up_by_their_weights(opd, batch_of, monkeypatch):
    batch, other = batch_of(["B"]), VLMConfig("tiny/qwen3-vl/4m")
    rewards = torch.tensor([[1.0, 0.0]])
    found = {}
    for weights in ((0.5, 0.0), (0.0, 2.0), (0.5, 2.0)):
        stage = opd(teacher=other, coef=weights[0], reward_weight=weights[1])
        monkeypatch.setattr(stage, "rule_rewards", lambda experience: rewards)
        found[weights] = gradients(stage, batch)[1]
    for name, both in found[0.5, 2.0].items():
        apart = found[0.5, 0.0][name] + found[0.0, 2.0][name]
        torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("freeze_vision", [True, False])
def test_the_teacher_sees_by_its_own_tower(opd, batch_of, monkeypatch, freeze_vision):
    stage = opd(replace(POLICY, freeze_vision=freeze_vision), VLMConfig("tiny/qwen3-vl/4m"))
    towers = {stage.policy.model.visual: "student", stage.teacher.model.visual: "teacher"}
    looks, stock = [], type(stage.policy.model.visual).forward

    def counting(self, *args, **kwargs):
        looks.append(towers[self])
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(type(stage.policy.model.visual), "forward", counting)
    stage.training_step(WindowTurn(batch_of(["B"], ["A"])), 0).backward()
    assert looks.count("teacher") == 1
    # A trained tower looks once for the rollouts, and once more with its graph.
    assert looks.count("student") == (1 if freeze_vision else 2 + 2)
    assert all(p.grad is None for p in stage.teacher.parameters())


def test_unequal_tokens_are_refused_before_anything_is_loaded(tmp_path):
    from lit_vdistill.models.vlm import load_processor

    load_processor("tiny/qwen3-vl").save_pretrained(tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["red"], vocab["blue"] = vocab["blue"], vocab["red"]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(
        ValueError, match=r"different tokenizers: 2 tokens differ, e\.g\. 'blue' is"
    ):
        OPDModule(POLICY, REWARDS, VLMConfig(str(tmp_path / "other")))
    with pytest.raises(ValueError, match=r"cut or scale frames differently \(patch_size 16 and 14"):
        check_same_tokens("tiny/qwen3-vl", "tiny/qwen2.5-vl")


def test_a_second_update_of_a_window_is_refused():
    loss = PolicyLossConfig(group_size=2, kl_coef=0.0, updates_per_rollout=2)
    with pytest.raises(ValueError, match=r"OPDModule needs loss\.updates_per_rollout 1"):
        OPDModule(POLICY, REWARDS, POLICY, loss=loss)
