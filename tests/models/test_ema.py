import copy
import math

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


def test_in_place_a_bfloat16_teacher_rounds_product_and_sum():
    """Below 1 its steps are 1/256: 0.99 rounds to 253/256, and a hundredth of 1.03125 more is
    nearest to 1 again, though the student is 4 steps away."""
    student = load_model(VLMConfig("tiny/qwen3-vl", dtype="bfloat16"))
    teacher, ema = copy.deepcopy(student), EMAWeights()
    with torch.no_grad():
        teacher.lm_head.weight.fill_(1.0)
        student.lm_head.weight.fill_(1.03125)
    found = []
    for _ in range(3):
        ema.update(teacher, student, 0.01, in_place=True)
        found.append(teacher.lm_head.weight[0, 0].item())
    assert found[0] == by_hand(1.0, 1.03125)
    assert found[1:] == [by_hand(value, 1.03125) for value in found[:-1]]
    assert ema.master == {}
    assert found == [1.0] * 3


def by_hand(teacher, student):
    """(1 - 0.01) t, rounded, plus 0.01 s, rounded, in steps of bfloat16."""
    return rounded(rounded(teacher * 0.99) + 0.01 * student)


def rounded(value):
    """To 8 significant binary digits."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 256), exponent - 8)
