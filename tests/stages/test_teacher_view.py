"""A teacher that sees more, in every stage that has one."""

from dataclasses import replace

import pytest
import torch

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Content, OuterFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import OPDModule, SelfDistillationModule, VISDModule
from lit_vdistill.stages.distillation import DistillConfig
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.replay import CreditConfig
from lit_vdistill.stages.self_distillation import SelfDistillConfig

RIGHT, WRONG = (f"<think>t</think><answer>{letter}</answer>" for letter in "BA")
TEXTS = {"s0": [RIGHT, WRONG], "s1": [WRONG, RIGHT], "s2": [RIGHT, RIGHT]}
PROMPTS = ({}, {"frames": 4}, {"kind": "text"})
POLICY = VLMConfig("tiny/qwen3-vl")
CLIP = ViewConfig()
SHARED = {
    "loss": PolicyLossConfig(group_size=2, kl_coef=0.0),
    "sampling": SamplingConfig(max_completion_tokens=12),
}
STAGES = {
    "visd": lambda share, view: VISDModule(
        POLICY, REWARDS, credit=CreditConfig(mix=share, conditioning="answer", view=view), **SHARED
    ),
    "opsd": lambda share, view: SelfDistillationModule(
        POLICY, REWARDS, distill=SelfDistillConfig(coef=share, view=view), **SHARED
    ),
    "opd": lambda share, view: OPDModule(
        POLICY, REWARDS, POLICY, distill=DistillConfig(coef=share, view=view), **SHARED
    ),
}
REWARDS = [OuterFormat(), Content()]


@pytest.fixture
def step(prepare, script, batch_of, make_prompt, take_step):
    """A step of a stage whose teacher sees another clip of the first video; its values and loss."""

    def build(name, view=CLIP, num_pieces=1):
        torch.manual_seed(0)
        stage = script(prepare(STAGES[name](1.0, view)), TEXTS)
        first, *others = batch_of(["B"], ["B"], ["B"], prompts=PROMPTS).items
        clip = make_prompt(stage.processor, "another clip", frames=2)
        batch = PromptBatch((replace(first, view=clip if view else None), *others))
        return take_step(stage, batch, num_pieces)

    return build


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("num_pieces", [1, 2, 5])
def test_what_is_seen_plain_is_counted(step, name, num_pieces):
    """Two of three samples, a text among them, however the step is cut."""
    values = step(name, num_pieces=num_pieces)
    assert values["teacher/seen_plain"] == pytest.approx(2 / 3)
    assert values["train/loss"] == pytest.approx(step(name)["train/loss"], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", STAGES)
def test_what_the_teacher_sees_moves_the_loss(step, name):
    plain = step(name, view=None)
    assert "teacher/seen_plain" not in plain
    assert abs(step(name)["train/loss"] - plain["train/loss"]) > 1e-6


@pytest.mark.parametrize("name", STAGES)
def test_nobody_looks_for_a_teacher_that_is_not_asked(name):
    assert STAGES[name](1.0, CLIP).teacher_view is CLIP
    assert STAGES[name](0.0, CLIP).teacher_view is None
