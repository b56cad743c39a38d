"""Attention in which all completions of a prompt look at one copy of it.

Transformers calls the attention functions that are registered here for the language model of every
network that `enable_plans` has been given. Without a plan they are the stock ones. With a plan,
which the forward call hands down as `attention_plan=`, the plan says who looks at whom:

    TwoPassAttention   SDPA: prompts causally, then completions over prompt and self
    VarlenAttention    the same two passes by FlashAttention's kernel for unequal lengths
    BlockAttention     FlexAttention with a block mask; keys are never copied

None of them builds an L x L mask. The rollout engine's cache is a plan too
(`rollouts/shared_cache.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask, sdpa_mask

AttentionKernel = Literal["sdpa", "flash_attention_2", "flex_attention"]
_PREFIX = "planned_"
_BY_TOKEN = "1 heads seq dim -> seq heads dim"


@runtime_checkable
class AttentionPlan(Protocol):
    """Who looks at whom in one forward pass."""

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "batch heads seq dim"],
        key: Float[Tensor, "batch kv_heads seq dim"],
        value: Float[Tensor, "batch kv_heads seq dim"],
        scaling: float,
    ) -> Float[Tensor, "batch seq heads dim"]:
        """Attention of one layer; `scaling` multiplies the scores."""
        ...


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Where a prompt and its completions stand in a flat sequence: `[prompt | c1 … cN]`."""

    start: int
    """Position of the prompt's first token."""
    prompt_length: int
    completion_lengths: tuple[int, ...]
    """Tokens of each completion; they follow the prompt and each other."""

    @property
    def stop(self) -> int:
        """Position after the last completion."""
        return self.start + self.prompt_length + sum(self.completion_lengths)


def enable_plans(model: PreTrainedModel, kernel: AttentionKernel) -> None:
    """Let a network's language model take attention plans; its vision tower stays as it is."""
    model.set_attn_implementation({"text_config": _PREFIX + kernel})


def kernel_of(backbone: Any) -> AttentionKernel:
    """The kernel that a network was given by `enable_plans`.

    Raises:
        ValueError: For a network that was not.
    """
    name = backbone.config.get_text_config()._attn_implementation
    if not name.startswith(_PREFIX):
        raise ValueError(
            f"this network's attention is '{name}', which cannot share prompts; load it by "
            "lit_vdistill.models.vlm.load_model, or call enable_plans(model, 'sdpa')"
        )
    return name.removeprefix(_PREFIX)


def packed_plan(
    kernel: AttentionKernel, groups: Sequence[PrefixGroup], device: torch.device
) -> AttentionPlan:
    """The plan by which completions see their prompt and themselves."""
    if kernel == "flash_attention_2":
        from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

        return VarlenAttention(groups, device, flash_attn_varlen_func)
    return (BlockAttention if kernel == "flex_attention" else TwoPassAttention)(groups, device)


class TwoPassAttention:
    """Each prompt causally; then its completions over a copy of its keys and their own.

    Works on every device. The copies of keys and values are N times the prompt's, for one layer at
    a time in the forward pass; the backward pass keeps them unless activations are recomputed.
    """

    def __init__(self, groups: Sequence[PrefixGroup], device: torch.device) -> None:
        """Prepare the index of each group; `device` is the tokens'."""
        self.groups = [_PaddedGroup.of(group, device) for group in groups]

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        parts = [part for group in self.groups for part in group.attend(query, key, value, scaling)]
        return torch.cat(parts)[None]


@dataclass(frozen=True, slots=True)
class _PaddedGroup:
    prompt: slice
    gather: Int[Tensor, " padded"]
    """Positions of the completions' tokens, padded to one length; padding repeats a token."""
    keep: Int[Tensor, " real"] | None
    """Which of them are no padding; None = all."""
    rows: int
    mask: Bool[Tensor, "longest keys"]
    """A completion's token sees the prompt and its own predecessors."""

    @classmethod
    def of(cls, group: PrefixGroup, device: torch.device) -> "_PaddedGroup":
        lengths = torch.tensor(group.completion_lengths, device=device)
        first = group.start + group.prompt_length
        positions = torch.arange(first, group.stop, device=device)
        padded = pad_sequence(
            list(positions.split(list(group.completion_lengths))),
            batch_first=True,
            padding_value=first,
        )
        longest = padded.shape[1]
        real = torch.arange(longest, device=device) < lengths[:, None]
        own = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
        shared = torch.ones(longest, group.prompt_length, dtype=torch.bool, device=device)
        return cls(
            prompt=slice(group.start, first),
            gather=padded.flatten(),
            keep=None if bool(real.all()) else real.flatten().nonzero()[:, 0],
            rows=len(padded),
            mask=torch.cat([shared, own], dim=1),
        )

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor]:
        """Outputs of the prompt's tokens and of the completions', `[seq, heads, dim]`."""
        of_prompt = scaled_dot_product_attention(
            query[:, :, self.prompt], key[:, :, self.prompt], value[:, :, self.prompt],
            is_causal=True, scale=scaling, enable_gqa=True,
        )  # fmt: skip
        asking, keys, values = (
            rearrange(tensor, "rows seq heads dim -> rows heads seq dim")
            for tensor in (
                self._rows_of(query), self._behind_prompt(key), self._behind_prompt(value)
            )
        )  # fmt: skip
        of_rows = scaled_dot_product_attention(
            asking, keys, values, attn_mask=self.mask, scale=scaling, enable_gqa=True
        )
        flat = rearrange(of_rows, "rows heads seq dim -> (rows seq) heads dim")
        real = flat if self.keep is None else flat[self.keep]
        return rearrange(of_prompt, _BY_TOKEN), real

    def _rows_of(self, tensor: Tensor) -> Float[Tensor, "rows seq heads dim"]:
        # Tokens are the outer axis in memory: a token's heads are copied as one piece.
        chosen = rearrange(tensor, _BY_TOKEN).index_select(0, self.gather)
        return rearrange(chosen, "(rows seq) heads dim -> rows seq heads dim", rows=self.rows)

    def _behind_prompt(self, tensor: Tensor) -> Float[Tensor, "rows seq heads dim"]:
        prompt = rearrange(tensor[:, :, self.prompt], _BY_TOKEN)
        return torch.cat([prompt.expand(self.rows, -1, -1, -1), self._rows_of(tensor)], dim=1)


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
        for group in groups:
            end = group.start + group.prompt_length
            prompt = torch.arange(group.start, end)
            prompts.append(prompt)
            for length in group.completion_lengths:
                own.append(torch.arange(end, end + length))
                keys.append(torch.cat([prompt, own[-1]]))
                end += length
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


class BlockAttention:
    """FlexAttention over the flat sequence: blocks that the mask empties are not computed.

    Compiled on GPU; elsewhere the eager form, which transforms no gradient and is for tests.
    """

    def __init__(self, groups: Sequence[PrefixGroup], device: torch.device) -> None:
        """Prepare the block mask; `device` is the tokens'."""
        from torch.nn.attention.flex_attention import create_block_mask

        group_of, segment_of = [], []
        for number, group in enumerate(groups):
            lengths = [group.prompt_length, *group.completion_lengths]
            group_of += [number] * sum(lengths)
            segment_of += [s for s, length in enumerate(lengths) for _ in range(length)]
        group_ids = torch.tensor(group_of, device=device)
        segments = torch.tensor(segment_of, device=device)

        length = len(segment_of)
        self.mask = create_block_mask(
            lambda batch, head, asking, asked: (
                (group_ids[asked] == group_ids[asking])
                & ((segments[asked] == 0) | (segments[asked] == segments[asking]))
                & (asking >= asked)
            ),
            None, None, length, length, device=str(device),
        )  # fmt: skip

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
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if is_compiled else flex_attention


def _planned(stock: Callable[..., Any]) -> Callable[..., Any]:
    """An attention function for transformers: by the plan where there is one, else as ever."""

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float,
        attention_plan: AttentionPlan | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        if attention_plan is None:
            output, _ = stock(module, query, key, value, attention_mask, scaling=scaling, **others)
            return output, None
        layer = module.layer_idx
        assert isinstance(layer, int)
        return attention_plan.attend(layer, query, key, value, scaling), None

    return attention


AttentionInterface.register(_PREFIX + "sdpa", _planned(sdpa_attention_forward))
AttentionMaskInterface.register(_PREFIX + "sdpa", sdpa_mask)
AttentionInterface.register(_PREFIX + "flash_attention_2", _planned(flash_attention_forward))
AttentionMaskInterface.register(_PREFIX + "flash_attention_2", flash_attention_mask)
# Transformers refuses FlexAttention for Qwen-VL by name; without a plan SDPA serves.
AttentionInterface.register(_PREFIX + "flex_attention", _planned(sdpa_attention_forward))
AttentionMaskInterface.register(_PREFIX + "flex_attention", sdpa_mask)
