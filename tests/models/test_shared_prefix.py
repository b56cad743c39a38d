import copy

import pytest
import torch

from lit_vdistill.models.forward import completion_states
from lit_vdistill.models.layout import Row
from lit_vdistill.models.shared_prefix import (
    BlockAttention,
    PackedPlan,
    TwoPassAttention,
    VarlenAttention,
    kernel_of,
)
from tests.families import ONE_PATH

ROWS = [Row(p, ids) for p in (0, 1) for ids in ((300, 301, 302), (310,), (320, 321))]


def test_a_network_without_plans_is_refused():
    from lit_vdistill.models.tiny import build_tiny_model

    with pytest.raises(ValueError, match=r"'sdpa'.*enable_plans"):
        kernel_of(build_tiny_model("qwen3-vl").model)


@pytest.fixture
def strict_plans(varlen_in_the_open):
    """Plans by name, each of which refuses float32 as FlashAttention's kernel does."""

    def varlen(q, k, v, *bounds, **options):
        assert {q.dtype, k.dtype, v.dtype} == {torch.bfloat16}
        return varlen_in_the_open(q, k, v, *bounds, **options)

    def checked(make):
        def plan(kernel, groups, device):
            built = make(groups, device)
            attend = built.attend

            def strict(layer, *states_and_scaling):
                assert {s.dtype for s in states_and_scaling[:3]} == {torch.bfloat16}
                return attend(layer, *states_and_scaling)

            built.attend = strict
            return PackedPlan(built, groups, device)

        return plan

    return {
        "varlen": checked(lambda groups, device: VarlenAttention(groups, device, varlen)),
        "two passes": checked(TwoPassAttention),
        "blocks": checked(BlockAttention),
    }


@pytest.mark.parametrize("kernel", ["varlen", "two passes", "blocks"])
@pytest.mark.parametrize("mode", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("name", ONE_PATH)
def test_kernels_get_the_half_precision_that_is_trained_in(
    name, mode, kernel, families, make_prompt, strict_plans, monkeypatch
):
    model, processor = families[name]
    prompts = [make_prompt(processor, "a"), make_prompt(processor, "c", "image")]
    with torch.no_grad():
        exact = completion_states(model.model, prompts, ROWS, 0)
    model = copy.deepcopy(model)
    if mode == "bf16-true":
        torch.nn.Module.to(model, dtype=torch.bfloat16)
    monkeypatch.setattr("lit_vdistill.models.forward.packed_plan", strict_plans[kernel])
    # FlexAttention has no gradient on CPU.
    with (
        torch.set_grad_enabled(kernel != "blocks"),
        torch.autocast("cpu", torch.bfloat16, enabled=mode == "bf16-mixed"),
    ):
        states = completion_states(model.model, prompts, ROWS, 0)
    assert states.hidden.dtype == next(model.parameters()).dtype
    error = (states.hidden.float() - exact.hidden)[exact.mask].norm()
    assert error < 0.05 * exact.hidden[exact.mask].norm()
    if kernel != "blocks":
        states.hidden.float().square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.model.language_model.parameters())
