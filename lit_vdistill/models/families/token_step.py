"""One token a row through a layer's attention, without what transformers adds to each call."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lit_vdistill.models.shared_prefix import AttentionPlan


@runtime_checkable
class TokenCache(AttentionPlan, Protocol):
    """A plan for decoding: it keeps keys, values and states of what was decoded."""

    def attend_rows(
        self,
        layer: int,
        query: Float[Tensor, "rows heads dim"],
        key: Float[Tensor, "rows kv_heads dim"],
        value: Float[Tensor, "rows kv_heads dim"],
        scaling: float,
    ) -> Float[Tensor, "rows heads_dim"]:
        """Attention of one layer over each row's prompt and tokens, this one included."""
        ...


Angles = tuple[Float[Tensor, "rows 1 dim"], Float[Tensor, "rows 1 dim"]]
"""Cosine and signed sine of the rows' positions, `(-sin, sin)` by halves: rotating by halves is
x cos + (-x₂, x₁) sin."""


def attend_token(
    attention: Any, hidden: Float[Tensor, "rows hidden"], angles: Angles, cache: TokenCache
) -> Float[Tensor, "rows hidden"]:
    """Attention with rotary positions; norms of queries and keys, and a gate, where it has them.

    Calls its modules' parts, not the attention itself: its hooks do not run.
    """
    heads = (len(hidden), -1, attention.head_dim)
    query, key, value = (
        part(hidden).view(heads) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    gate = None
    if query.shape[1] > attention.o_proj.in_features // attention.head_dim:
        # Queries and their gates stand side by side, by head.
        query, gate = query.unflatten(1, (-1, 2)).unbind(dim=2)
    if isinstance(getattr(attention, "q_norm", None), nn.Module):
        query, key = attention.q_norm(query), attention.k_norm(key)
    # Under autocast angles are float32: as plans have it, the values' type is the type.
    query, key = (_rotated(part, *angles).to(value.dtype) for part in (query, key))
    read = cache.attend_rows(attention.layer_idx, query, key, value, attention.scaling)
    return attention.o_proj(read if gate is None else read * gate.flatten(1).sigmoid())


def _rotated(
    states: Float[Tensor, "rows heads dim"],
    cosine: Float[Tensor, "rows 1 rotary"],
    signed_sine: Float[Tensor, "rows 1 rotary"],
) -> Float[Tensor, "rows heads dim"]:
    size = cosine.shape[-1]
    turned = states[..., :size]
    swapped = turned.roll(size // 2, dims=-1)
    turned = turned * cosine + swapped * signed_sine
    return turned if size == states.shape[-1] else torch.cat([turned, states[..., size:]], dim=-1)
