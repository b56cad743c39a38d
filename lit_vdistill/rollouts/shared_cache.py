"""A decoding cache in which all rollouts of a prompt read one copy of its keys and values.

`PromptCache` runs the prompts; `RolloutCache` decodes behind it. Prompts about one medium stand
there as a trunk, what they have in common, with a branch each: a rollout reads trunk, branch and
its own tokens. Memory is that of trunks, branches and sampled tokens, where a stock cache holds the
prompt once a rollout and copies all of it at every step. A recurrent layer's state has a fixed
size: the trunk makes it, each branch takes it on, and each rollout takes on a copy of its branch's.
Both are attention plans (`models/shared_prefix.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from lit_vdistill.models.plans.groups import PrefixGroup, segments_of
from lit_vdistill.models.plans.states import LayerState, Recurrence
from lit_vdistill.models.plans.two_pass import TwoPassAttention
from lit_vdistill.objectives.precision import widened


@dataclass(frozen=True, slots=True)
class _Kept:
    """Keys and values of segments, by layer, padded on the right."""

    lengths: tuple[int, ...]
    keys: dict[int, Float[Tensor, "segments kv_heads seq dim"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "segments kv_heads seq dim"]] = field(default_factory=dict)

    def add(self, layer: int, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Those of one layer, `[1, kv_heads, seq, dim]` a segment."""
        self.keys[layer], self.values[layer] = self._padded(keys), self._padded(values)

    def _padded(self, parts: Sequence[Tensor]) -> Tensor:
        longest = max(self.lengths)
        return torch.cat([pad(part, (0, 0, 0, longest - part.shape[2])) for part in parts])


class PromptCache:
    """Prompts in a flat sequence, each trunk before its branches; their keys and values are kept.

    A prompt that shares nothing is a trunk with an empty branch.
    """

    def __init__(self, groups: Sequence[PrefixGroup], device: torch.device) -> None:
        """Start empty.

        Args:
            groups: Trunks, each with a branch a prompt.
            device: The tokens'.
        """
        segments = segments_of(groups)
        self.num_tokens = groups[-1].stop
        self.lengths = [len(segment.own) for segment in segments]
        self.is_branch = [bool(segment.prefix) for segment in segments]
        self.num_branches = [len(group.completion_lengths) for group in groups]
        trunks, branches = self._trunks_and_branches(self.lengths)
        self.trunks, self.branches = _Kept(tuple(trunks)), _Kept(tuple(branches))
        self.states: dict[int, LayerState] = {}
        """By recurrent layer, a row a branch."""
        self.is_nested = any(branches)
        self._nested = TwoPassAttention(groups, device) if self.is_nested else None

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        (queries, _), (keys, branch_keys), (values, branch_values) = (
            self._trunks_and_branches(tensor.split(self.lengths, dim=2))
            for tensor in (query, key, value)
        )
        self.trunks.add(layer, keys, values)
        if self._nested is not None:
            self.branches.add(layer, branch_keys, branch_values)
            return self._nested.attend(layer, query, key, value, scaling)
        outputs = [
            scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
            for q, k, v in zip(queries, keys, values, strict=True)
        ]
        return torch.cat(outputs, dim=2).transpose(1, 2)

    def carry(self, layer: int, inputs: Tensor, recurrence: Recurrence) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        reads, behind, trunk = [], [], None
        parts = inputs.split(self.lengths, dim=1)
        for part, is_branch in zip(parts, self.is_branch, strict=True):
            state = trunk
            if part.shape[1]:
                before = trunk if is_branch else None
                read, state = recurrence(part, None, before, keeps_state=True)
                reads.append(read)
            assert state is not None
            if is_branch:
                behind.append(state)
            else:
                trunk = state
        self.states[layer] = LayerState.cat(behind)
        return torch.cat(reads, dim=1)

    def _trunks_and_branches(self, segments: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """What belongs to either, of one thing a segment."""
        trunks: list[Any] = []
        branches: list[Any] = []
        for thing, is_branch in zip(segments, self.is_branch, strict=True):
            (branches if is_branch else trunks).append(thing)
        return trunks, branches


class RolloutCache:
    """Rollouts behind their prompts, one token each a step.

    Scores and their softmax are computed in the open, the softmax at least in float32, as in
    transformers' eager attention: fused kernels take no keys in several pieces.
    """

    def __init__(self, prompts: PromptCache, num_rollouts: int, max_tokens: int) -> None:
        """Give every prompt `num_rollouts` rows, side by side, for at most `max_tokens` tokens."""
        like = next(iter(prompts.trunks.keys.values()))
        (_, kv_heads, _, dim), device = like.shape, like.device
        trunk_of = torch.arange(len(like), device=device).repeat_interleave(
            torch.tensor(prompts.num_branches, device=device)
        )
        branch_of = torch.arange(len(trunk_of), device=device).repeat_interleave(num_rollouts)
        self.levels = [_Level(prompts.trunks, trunk_of[branch_of])]
        """What rows read beside their own tokens."""
        if prompts.is_nested:
            self.levels.append(_Level(prompts.branches, branch_of))
        shape = (len(branch_of), kv_heads, max_tokens, dim)
        self.own_keys = {layer: like.new_empty(shape) for layer in prompts.trunks.keys}
        self.own_values = {
            layer: kept.new_empty(shape) for layer, kept in prompts.trunks.values.items()
        }
        self.states = {layer: s.select(branch_of) for layer, s in prompts.states.items()}
        self.num_tokens = 0

    def advance(self) -> None:
        """One more token a row is about to be decoded."""
        self.num_tokens += 1

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows only, in rising order; trunks and branches without one are dropped."""
        tokens = self.num_tokens
        self.states = {layer: state.select(rows) for layer, state in self.states.items()}
        for own in (self.own_keys, self.own_values):
            for layer, whole in own.items():
                own[layer] = kept = whole.new_empty(len(rows), *whole.shape[1:])
                kept[:, :, :tokens] = whole[rows, :, :tokens]
        for level in self.levels:
            level.select(rows)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`; the batch is the rows, with one token each."""
        of_rows = self.attend_rows(layer, query[:, :, 0], key[:, :, 0], value[:, :, 0], scaling)
        return of_rows.view(len(query), 1, *query[:, :, 0].shape[1:])

    def attend_rows(
        self,
        layer: int,
        query: Float[Tensor, "rows heads dim"],
        key: Float[Tensor, "rows kv_heads dim"],
        value: Float[Tensor, "rows kv_heads dim"],
        scaling: float,
    ) -> Float[Tensor, "rows heads_dim"]:
        """Attention of one layer over each row's prompt and tokens, this one included."""
        place = self.num_tokens - 1
        self.own_keys[layer][:, :, place] = key
        self.own_values[layer][:, :, place] = value
        own_keys = self.own_keys[layer][:, :, : self.num_tokens]
        own_values = self.own_values[layer][:, :, : self.num_tokens]
        grouped = (query * scaling).unflatten(1, (key.shape[1], -1))

        scores = [level.scores(layer, grouped) for level in self.levels]
        scores.append(grouped @ own_keys.mT)
        weights = widened(torch.cat(scores, dim=-1)).softmax(dim=-1).to(value.dtype)
        *shared, own = weights.split([part.shape[-1] for part in scores], dim=-1)
        read = own @ own_values
        for level, part in zip(self.levels, shared, strict=True):
            read = read + level.read(layer, part)
        return read.flatten(1)

    def carry(self, layer: int, inputs: Tensor, recurrence: Recurrence) -> Tensor:
        """See `AttentionPlan`; the batch is the rows, with one token each."""
        read, state = recurrence(inputs, None, self.states[layer], keeps_state=True)
        assert state is not None
        self.states[layer] = state
        return read


class _Level:
    """Trunks or branches that rows read.

    Neighbours with equally many rows are a block: a rectangle of all would be as wide as that of
    the medium with the most questions.
    """

    def __init__(self, kept: _Kept, owners: Int[Tensor, " rows"]) -> None:
        """Take over what was kept; `owners` is the segment of each row, in rising order."""
        self.blocks: list[_Block] = []
        first = 0
        for num_rows, run in groupby(owners.bincount().tolist()):
            span = slice(first, first + len(list(run)))
            own = torch.arange(span.stop - first, device=owners.device)
            self.blocks.append(_Block(kept, span, own.repeat_interleave(num_rows)))
            first = span.stop

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows only, and the segments that have one."""
        first, blocks = 0, self.blocks
        self.blocks = []
        for block in blocks:
            stop = first + len(block.owners)
            own = rows[(rows >= first) & (rows < stop)] - first
            if len(own):
                block.select(own)
                self.blocks.append(block)
            first = stop

    def scores(
        self, layer: int, queries: Float[Tensor, "rows kv_heads queries dim"]
    ) -> Float[Tensor, "rows kv_heads queries seq"]:
        """Products of each row's queries with its segment's keys; -inf at padding."""
        return self._of_blocks([block.scores(layer, q) for block, q in self._parts(queries)])

    def read(
        self, layer: int, weights: Float[Tensor, "rows kv_heads queries seq"]
    ) -> Float[Tensor, "rows kv_heads queries dim"]:
        """Sums of its segment's values by each row's weights."""
        return self._of_blocks([block.read(layer, w) for block, w in self._parts(weights)])

    def _parts(self, of_rows: Tensor) -> "Iterator[tuple[_Block, Tensor]]":
        parts = of_rows.split([len(block.owners) for block in self.blocks])
        return zip(self.blocks, parts, strict=True)

    def _of_blocks(self, found: Sequence[Tensor]) -> Tensor:
        return found[0] if len(found) == 1 else torch.cat(list(found))


class _Block:
    """Segments, each of which has its keys and values once for all of its rows."""

    def __init__(self, kept: _Kept, span: slice, owners: Int[Tensor, " rows"]) -> None:
        """Take over those of `span`; `owners` is the segment of each row, in rising order."""
        self.keys = {layer: keys[span] for layer, keys in kept.keys.items()}
        self.values = {layer: values[span] for layer, values in kept.values.items()}
        self.owners = owners
        lengths = torch.tensor(kept.lengths[span], device=owners.device)
        places = torch.arange(max(kept.lengths), device=owners.device)
        self.is_padding = (places >= lengths[:, None])[:, None, None]
        self.has_padding = bool(self.is_padding.any())
        self._arrange()

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows only, and the segments that have one."""
        owners, self.owners = self.owners[rows].unique_consecutive(return_inverse=True)
        if len(owners) < len(self.is_padding):
            self.keys = {layer: keys[owners] for layer, keys in self.keys.items()}
            self.values = {layer: kept[owners] for layer, kept in self.values.items()}
            self.is_padding = self.is_padding[owners]
        self._arrange()

    def scores(
        self, layer: int, queries: Float[Tensor, "rows kv_heads queries dim"]
    ) -> Float[Tensor, "rows kv_heads queries seq"]:
        """See `_Level`."""
        found = self._by_segment(queries) @ self.keys[layer].mT
        if self.has_padding:
            found.masked_fill_(self.is_padding, -torch.inf)
        return self._by_row(found)

    def read(
        self, layer: int, weights: Float[Tensor, "rows kv_heads queries seq"]
    ) -> Float[Tensor, "rows kv_heads queries dim"]:
        """See `_Level`."""
        return self._by_row(self._by_segment(weights) @ self.values[layer])

    def _arrange(self) -> None:
        """Index rows as a rectangle of segments by rollouts; where rows have left, one repeats."""
        counts = self.owners.bincount()
        self.widest = int(counts.max())
        first = counts.cumsum(0) - counts
        column = torch.arange(self.widest, device=counts.device)
        rectangle = first[:, None] + column.where(column < counts[:, None], 0)
        is_full = bool((counts == self.widest).all())
        self.rectangle = None if is_full else rectangle.flatten()
        within = torch.arange(len(self.owners), device=counts.device) - first[self.owners]
        self.place_of_row = self.owners * self.widest + within

    def _by_segment(
        self, tensor: Float[Tensor, "rows kv_heads queries last"]
    ) -> Float[Tensor, "segments kv_heads all_queries last"]:
        if self.rectangle is not None:
            tensor = tensor[self.rectangle]
        by_segment = tensor.unflatten(0, (-1, self.widest)).transpose(1, 2)
        return by_segment.flatten(2, 3)

    def _by_row(
        self, tensor: Float[Tensor, "segments kv_heads all_queries last"]
    ) -> Float[Tensor, "rows kv_heads queries last"]:
        by_row = tensor.unflatten(2, (self.widest, -1)).transpose(1, 2).flatten(0, 1)
        return by_row if self.rectangle is None else by_row[self.place_of_row]
