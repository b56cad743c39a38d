import pytest
import torch

from lit_vdistill.models.plans.gather import Gather


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_its_gradient_is_the_sum_over_copies(dtype):
    index = torch.tensor([3, 1, 3, 0, 3, 1, 1])
    is_real = torch.tensor([True, True, True, True, True, True, False])
    gather = Gather.of(index, is_real, 5, torch.device("cpu"))
    flat = torch.randn(5, 2, 8, dtype=dtype, requires_grad=True)
    chosen = gather(flat)
    assert torch.equal(chosen, flat[index])
    upstream = torch.randn_like(chosen)
    (gradient,) = torch.autograd.grad(chosen, flat, upstream)
    expected = torch.zeros_like(gradient)
    expected.index_add_(0, index[is_real], upstream[is_real])
    torch.testing.assert_close(gradient, expected)
    assert (gradient[[2, 4]] == 0).all()
