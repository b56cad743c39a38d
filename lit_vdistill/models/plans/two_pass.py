"""Shared prompts by SDPA, on any device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from lit_vdistill.models.plans.groups import PrefixGroup

_BY_TOKEN = "1 heads seq dim -> seq heads dim"


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
