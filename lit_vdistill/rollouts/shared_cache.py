"""A decoding cache in which all rollouts of a prompt read one copy of its keys and values.

`PromptCache` runs the prompts; `RolloutCache` decodes behind it. Memory is that of the prompts plus
that of the sampled tokens, where a stock cache holds the prompt once a rollout and copies all of it
at every step. A recurrent layer's state has a fixed size: the prompt makes it once, and each
rollout takes its own copy on. Both are attention plans (`models/shared_prefix.py`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from lit_vdistill.models.plans.states import LayerState, Recurrence
from lit_vdistill.objectives.precision import widened


class PromptCache:
    """Prompts one after another in a flat sequence, each causal; their keys and values are kept."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """Start empty, for prompts of these lengths."""
        self.lengths = list(lengths)
        self.keys: dict[int, Float[Tensor, "prompts kv_heads seq dim"]] = {}
        """By layer, padded on the right."""
        self.values: dict[int, Float[Tensor, "prompts kv_heads seq dim"]] = {}
        self.states: dict[int, LayerState] = {}
        """By recurrent layer, a row a prompt."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        parts = [tensor.split(self.lengths, dim=2) for tensor in (query, key, value)]
        outputs = [
            scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
            for q, k, v in zip(*parts, strict=True)
        ]
        self.keys[layer] = self._padded(parts[1])
        self.values[layer] = self._padded(parts[2])
        return torch.cat(outputs, dim=2).transpose(1, 2)

    def carry(self, layer: int, inputs: Tensor, recurrence: Recurrence) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        found = [
            recurrence(part, None, None, keeps_state=True)
            for part in inputs.split(self.lengths, dim=1)
        ]
        self.states[layer] = LayerState.cat([state for _, state in found if state is not None])
        return torch.cat([read for read, _ in found], dim=1)

    def _padded(self, parts: Sequence[Tensor]) -> Tensor:
        longest = max(self.lengths)
        return torch.cat([pad(part, (0, 0, 0, longest - part.shape[2])) for part in parts])


class RolloutCache:
    """Rollouts behind their prompts, one token each a step.

    Scores and their softmax are computed in the open, the softmax at least in float32, as in
    transformers' eager attention: fused kernels take no keys in two pieces.
    """

    def __init__(self, prompts: PromptCache, num_rollouts: int, max_tokens: int) -> None:
        """Give every prompt `num_rollouts` rows, side by side, for at most `max_tokens` tokens."""
        self.keys, self.values = dict(prompts.keys), dict(prompts.values)
        like = next(iter(self.keys.values()))
        (count, kv_heads, longest, dim), device = like.shape, like.device
        lengths = torch.tensor(prompts.lengths, device=device)
        self.is_padding = (torch.arange(longest, device=device) >= lengths[:, None])[:, None, None]
        self.has_padding = bool(self.is_padding.any())
        shape = (count * num_rollouts, kv_heads, max_tokens, dim)
        self.own_keys = {layer: keys.new_empty(shape) for layer, keys in self.keys.items()}
        self.own_values = {layer: kept.new_empty(shape) for layer, kept in self.values.items()}
        self.owners = torch.arange(count, device=device).repeat_interleave(num_rollouts)
        self.states = {layer: s.select(self.owners) for layer, s in prompts.states.items()}
        self.num_tokens = 0
        self._arrange()

    def advance(self) -> None:
        """One more token a row is about to be decoded."""
        self.num_tokens += 1

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows only, in rising order; prompts without one are dropped."""
        tokens = self.num_tokens
        self.states = {layer: state.select(rows) for layer, state in self.states.items()}
        for own in (self.own_keys, self.own_values):
            for layer, whole in own.items():
                own[layer] = kept = whole.new_empty(len(rows), *whole.shape[1:])
                kept[:, :, :tokens] = whole[rows, :, :tokens]
        owners, self.owners = self.owners[rows].unique_consecutive(return_inverse=True)
        if len(owners) < len(self.is_padding):
            self.keys = {layer: keys[owners] for layer, keys in self.keys.items()}
            self.values = {layer: kept[owners] for layer, kept in self.values.items()}
            self.is_padding = self.is_padding[owners]
        self._arrange()

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
        kv_heads, longest = self.keys[layer].shape[1:3]
        place = self.num_tokens - 1
        self.own_keys[layer][:, :, place] = key
        self.own_values[layer][:, :, place] = value
        own_keys = self.own_keys[layer][:, :, : self.num_tokens]
        own_values = self.own_values[layer][:, :, : self.num_tokens]
        grouped = (query * scaling).unflatten(1, (kv_heads, -1))

        of_prompt = self._by_prompt(grouped) @ self.keys[layer].mT
        if self.has_padding:
            of_prompt.masked_fill_(self.is_padding, -torch.inf)
        scores = torch.cat([self._by_row(of_prompt), grouped @ own_keys.mT], dim=-1)
        weights = widened(scores).softmax(dim=-1).to(value.dtype)
        shared = self._by_prompt(weights[..., :longest]) @ self.values[layer]
        return (self._by_row(shared) + weights[..., longest:] @ own_values).flatten(1)

    def carry(self, layer: int, inputs: Tensor, recurrence: Recurrence) -> Tensor:
        """See `AttentionPlan`; the batch is the rows, with one token each."""
        read, state = recurrence(inputs, None, self.states[layer], keeps_state=True)
        assert state is not None
        self.states[layer] = state
        return read

    def _arrange(self) -> None:
        """Index rows as a rectangle of prompts by rollouts; where rows have left, one repeats."""
        counts = self.owners.bincount()
        self.widest = int(counts.max())
        first = counts.cumsum(0) - counts
        column = torch.arange(self.widest, device=counts.device)
        rectangle = first[:, None] + column.where(column < counts[:, None], 0)
        is_full = bool((counts == self.widest).all())
        self.rectangle = None if is_full else rectangle.flatten()
        within = torch.arange(len(self.owners), device=counts.device) - first[self.owners]
        self.place_of_row = self.owners * self.widest + within

    def _by_prompt(
        self, tensor: Float[Tensor, "rows kv_heads queries last"]
    ) -> Float[Tensor, "prompts kv_heads all_queries last"]:
        if self.rectangle is not None:
            tensor = tensor[self.rectangle]
        by_prompt = tensor.unflatten(0, (-1, self.widest)).transpose(1, 2)
        return by_prompt.flatten(2, 3)

    def _by_row(
        self, tensor: Float[Tensor, "prompts kv_heads all_queries last"]
    ) -> Float[Tensor, "rows kv_heads queries last"]:
        by_row = tensor.unflatten(2, (self.widest, -1)).transpose(1, 2).flatten(0, 1)
        return by_row if self.rectangle is None else by_row[self.place_of_row]
