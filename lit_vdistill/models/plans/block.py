"""Shared prompts by FlexAttention: blocks that the mask empties are not computed."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lit_vdistill.models.plans.groups import PrefixGroup, segments_of

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_BLOCK_SIZE = 128
"""FlexAttention's own default."""


class BlockAttention:
    """FlexAttention over the flat sequence; keys are never copied.

    Compiled on GPU; elsewhere the eager form, which transforms no gradient and is for tests.
    """

    def __init__(
        self, groups: Sequence[PrefixGroup], device: torch.device, block_size: int = _BLOCK_SIZE
    ) -> None:
        """Prepare the block mask; `device` is the tokens'."""
        self.mask = _block_mask(groups, device, block_size)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        output = _flex_attention(query.is_cuda)(
            query, key, value, block_mask=self.mask, scale=scaling, enable_gqa=True
        )
        return output.transpose(1, 2)


@cache
def _flex_attention(is_compiled: bool) -> Callable[..., Tensor]:
    """The function, compiled once for all lengths and groups.

    Sizes are symbols under `dynamic=True`, and what the mask reads are tensors. Sequences of at
    most one block are compiled apart, as torch makes the size 1 a constant; rounding lengths up
    would cost a copy in every layer.
    """
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if is_compiled else flex_attention


def _block_mask(groups: Sequence[PrefixGroup], device: torch.device, size: int) -> "BlockMask":
    """What `create_block_mask` returns for the same mask, without its L x L tensor.

    Memory is O(L + (L / size)²): 16 k tokens have 16 k pairs of blocks.
    """
    from torch.nn.attention.flex_attention import BlockMask

    own, prefix, prefix_stop, length = _bounds(groups)
    full, partial = _blocks(own, prefix, prefix_stop, size)
    own, prefix, prefix_stop = (bound.to(device) for bound in (own, prefix, prefix_stop))

    # A lambda, as the tests' type checks wrap every `def` and torch.compile cannot look through.
    return BlockMask.from_kv_blocks(
        *_ordered(partial, device),
        *_ordered(full, device),
        BLOCK_SIZE=size,
        mask_mod=lambda batch, head, asking, asked: (
            (asked <= asking)
            & (((asked >= prefix[asking]) & (asked < prefix_stop[asking])) | (asked >= own[asking]))
        ),
        seq_lengths=(length, length),
    )


def _bounds(
    groups: Sequence[PrefixGroup],
) -> tuple[Int[Tensor, " seq"], Int[Tensor, " seq"], Int[Tensor, " seq"], int]:
    """For each token: where its segment starts, and where its prompt starts and stops; and L."""
    rows = []
    for segment in segments_of(groups):
        prompt = segment.prefix or segment.own
        rows.append((segment.own.start, prompt.start, prompt.stop, len(segment.own)))
    own, prefix, prefix_stop, lengths = torch.tensor(rows).unbind(dim=1)
    by_token = [bound.repeat_interleave(lengths) for bound in (own, prefix, prefix_stop)]
    return by_token[0], by_token[1], by_token[2], int(lengths.sum())


def _blocks(
    own: Int[Tensor, " seq"],
    prefix: Int[Tensor, " seq"],
    prefix_stop: Int[Tensor, " seq"],
    size: int,
) -> tuple[Bool[Tensor, "blocks blocks"], Bool[Tensor, "blocks blocks"]]:
    """Pairs of blocks of queries and keys that are seen as a whole, and those seen in part.

    Segments that begin within a block of queries see nothing before it but their prompt, so its
    first token says all about the blocks of keys before it.
    """
    length = len(own)
    first = torch.arange(0, length, size)
    last = (first + size - 1).clamp(max=length - 1)
    of_first = [bound[first][:, None] for bound in (own, prefix, prefix_stop)]
    segment, prompt, prompt_stop = of_first
    start, stop = first, first + size  # of blocks of keys
    before = start < first[:, None]
    seen = before & ((stop > segment) | ((stop > prompt) & (start < prompt_stop)))

    is_one_group = (prefix[first] == prefix[last])[:, None]
    is_one_segment = (own[first] == own[last])[:, None]
    in_prompt = (start >= prompt) & (stop <= prompt_stop)
    # The first completion stands right behind the prompt: a block may begin in one and end in both.
    in_segment = (start >= segment) | ((segment == prompt_stop) & (start >= prompt))
    is_whole = (stop <= length)[:, None]  # blocks that the sequence ends in are partial by rule
    full = before & is_whole & is_one_group & (in_prompt | (is_one_segment & in_segment))
    diagonal = torch.eye(len(first), dtype=torch.bool)
    return full, (seen & ~full) | diagonal


def _ordered(
    blocks: Bool[Tensor, "blocks blocks"], device: torch.device
) -> tuple[Int[Tensor, "1 1 blocks"], Int[Tensor, "1 1 blocks blocks"]]:
    """How many blocks of keys each block of queries has, and which; they come first."""
    counts = blocks.sum(dim=-1)
    indices = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return (
        counts.to(device, torch.int32)[None, None],
        indices.to(device, torch.int32)[None, None].contiguous(),
    )
