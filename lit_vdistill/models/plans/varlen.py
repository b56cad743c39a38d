"""Shared prompts by FlashAttention's kernel for sequences of unequal length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from lit_vdistill.models.plans.groups import PrefixGroup, segments_of

_BY_TOKEN = "1 heads seq dim -> seq heads dim"


class VarlenAttention:
    """The same two passes by a kernel for sequences of unequal length, without padding.

    A completion's queries are fewer than its keys; the kernel's causal mask then ends at the last
    of both (FlashAttention 2.1 and newer), which is what a completion behind a prompt needs.
    """

    def __init__(
        self,
        groups: Sequence[PrefixGroup],
        device: torch.device,
        varlen: Callable[..., Tensor],
    ) -> None:
        """Prepare the index; `varlen` has the signature of `flash_attn_varlen_func`."""
        self.varlen = varlen
        prompts, own, keys = [], [], []
        for segment in segments_of(groups):
            tokens = torch.arange(segment.own.start, segment.own.stop)
            if segment.prefix:
                own.append(tokens)
                keys.append(
                    torch.cat([torch.arange(segment.prefix.start, segment.prefix.stop), tokens])
                )
            else:
                prompts.append(tokens)
        self.prompts, self.own, self.keys = (_Ragged.of(p, device) for p in (prompts, own, keys))
        self.order = torch.cat([self.prompts.index, self.own.index]).argsort()

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        flat = [rearrange(tensor, _BY_TOKEN) for tensor in (query, key, value)]
        parts = []
        for asking, asked in ((self.prompts, self.prompts), (self.own, self.keys)):
            parts.append(
                self.varlen(
                    flat[0].index_select(0, asking.index),
                    flat[1].index_select(0, asked.index),
                    flat[2].index_select(0, asked.index),
                    asking.bounds, asked.bounds, asking.longest, asked.longest,
                    softmax_scale=scaling, causal=True,
                )
            )  # fmt: skip
        return torch.cat(parts).index_select(0, self.order)[None]


@dataclass(frozen=True, slots=True)
class _Ragged:
    index: Int[Tensor, " tokens"]
    bounds: Int[Tensor, " sequences_plus_1"]
    longest: int

    @classmethod
    def of(cls, parts: Sequence[Tensor], device: torch.device) -> "_Ragged":
        lengths = torch.tensor([0, *(len(part) for part in parts)])
        bounds = lengths.cumsum(0).to(device, torch.int32)
        return cls(torch.cat(list(parts)).to(device), bounds, int(lengths.max()))
