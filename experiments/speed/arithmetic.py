"""How much of what the machine can do training reaches: its arithmetic against a matrix product."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.speed.measure import synchronize
from experiments.speed.networks import Arena

Shape = Sequence[int]


def flops(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and attention, forward and backward.

    What attention skips behind the diagonal is not counted.
    """
    aten: Any = torch.ops.aten
    mapping = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return counter.get_total_flops()


def matrix_rate(arena: Arena, rounds: int = 20) -> float:
    """FLOPs a second of the plain product that a decoder layer's MLP begins with, in float32."""
    tokens = len(arena.prompt.input_ids) + arena.completions.numel()
    config = arena.ours.config.get_text_config()
    left = torch.randn(tokens, config.hidden_size, device=arena.ours.device)
    right = torch.randn(config.hidden_size, config.intermediate_size, device=arena.ours.device)
    seconds = []
    for number in range(rounds + 3):
        started = time.perf_counter()
        torch.mm(left, right)
        synchronize()
        if number >= 3:  # behind the warm-up
            seconds.append(time.perf_counter() - started)
    return 2 * tokens * right.numel() / statistics.median(seconds)


def _attention(query: Shape, key: Shape, value: Shape, *others: Any, **_: Any) -> int:
    """Two products: scores, and what they weigh."""
    return _one_product(query, key, others) * 2


def _attention_backward(
    grad: Shape, query: Shape, key: Shape, value: Shape, out: Shape, total: Shape,
    *others: Any, **_: Any,
) -> int:  # fmt: skip
    """Five: the scores again, and two for the gradient of each product."""
    return _one_product(query, key, others) * 5


def _one_product(query: Shape, key: Shape, others: Sequence[Any]) -> int:
    batch, heads, seq, dim = query
    is_causal = len(others) > 1 and bool(others[1])
    return 2 * batch * heads * seq * key[2] * dim // (2 if is_causal else 1)
