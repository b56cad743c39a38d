import copy

import pytest
import torch

from lit_vdistill.models.ema import EMAWeights
from lit_vdistill.models.vlm import VLMConfig, load_model


def test_ema_by_hand():
    student = load_model(VLMConfig("tiny/qwen3-vl"))
    teacher, ema = copy.deepcopy(student), EMAWeights()
    weight = student.lm_head.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight += 1.0
    ema.update(teacher, student, 0.01)
    torch.testing.assert_close(teacher.lm_head.weight.detach(), before + 0.01)
    ema.update(teacher, student, 1.0)
    assert torch.equal(teacher.lm_head.weight, weight)
    assert ema.master == {}


def test_a_bfloat16_student_moves_its_teacher_as_in_float32():
    """A hundredth of a change of 1/128 is below bfloat16's resolution at 1: it would stall."""
    student = load_model(VLMConfig("tiny/qwen3-vl", dtype="bfloat16"))
    with torch.no_grad():
        student.lm_head.weight.fill_(1.0)
    teacher, ema = copy.deepcopy(student), EMAWeights()
    with torch.no_grad():
        student.lm_head.weight.fill_(1.0078125)
    stalled = torch.ones((), dtype=torch.bfloat16)
    for _ in range(100):
        ema.update(teacher, student, 0.01)
        stalled.lerp_(student.lm_head.weight[0, 0].detach(), 0.01)
    expected = 1 + 0.0078125 * (1 - 0.99**100)
    (master,) = (m for m in ema.master.values() if m.shape == teacher.lm_head.weight.shape)
    assert master[0, 0].item() == pytest.approx(expected, abs=1e-6)
    assert teacher.lm_head.weight[0, 0].item() == 1.0078125  # nearest to it in bfloat16
    assert stalled.item() == 1.0
