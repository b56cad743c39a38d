"""Shared prompts by SDPA, on any device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from lit_vdistill.models.plans.gather import Gather
from lit_vdistill.models.plans.groups import PrefixGroup, Segment, segments_of
from lit_vdistill.models.plans.padding import Padded, size_class

_SMALL = 2**14
"""Pairs of a query and a key in a row of a mask that rows need not share."""
_WAVE = 2**15
"""Keys, copies and padding included, that exist at a time, unless one row has more."""


class TwoPassAttention:
    """Prompts causally; completions over a copy of their prompt's keys and their own.

    Rows of similar length are one batch, whatever group they are of. Copies of keys and values are
    N times the prompt's; in the forward pass those of `_WAVE` tokens of one layer exist at a time,
    and the backward pass keeps all unless activations are recomputed.
    """

    def __init__(self, groups: Sequence[PrefixGroup], device: torch.device) -> None:
        """Prepare the index of all batches; `device` is the tokens'."""
        length = groups[-1].stop
        buckets = list(_buckets([s for s in segments_of(groups) if s.own]))
        self.waves = [_Wave.of(wave, length, device) for wave in _waves(buckets)]
        slots = torch.cat([b.queries.index.flatten() for b in buckets])
        is_real = torch.cat([b.queries.is_real.flatten() for b in buckets])
        place = torch.empty(length, dtype=torch.long)
        place[slots[is_real]] = is_real.nonzero()[:, 0]
        self.place = Gather.of(place, torch.ones_like(place, dtype=torch.bool), len(slots), device)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`; the batch is one flat sequence."""
        # Tokens are the outer axis in memory: a token's heads are copied as one piece.
        flat = [
            rearrange(state, "1 heads seq dim -> seq heads dim") for state in (query, key, value)
        ]
        parts = [
            part for wave in self.waves for part in wave.attend(flat[0], flat[1], flat[2], scaling)
        ]
        return self.place(torch.cat(parts))[None]


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Rows of similar length: prompts alone or completions alone."""

    queries: Padded
    prefixes: Padded | None
    """What completions see in front of their own keys; None for prompts."""

    @property
    def width(self) -> int:
        """Keys of a row."""
        behind = 0 if self.prefixes is None else self.prefixes.index.shape[1]
        return behind + self.queries.index.shape[1]

    @property
    def keys(self) -> Padded:
        """Positions of the keys of each row."""
        if self.prefixes is None:
            return self.queries
        both = (self.prefixes, self.queries)
        return Padded(
            torch.cat([part.index for part in both], dim=1),
            torch.cat([part.is_real for part in both], dim=1),
        )

    @property
    def mask(self) -> Bool[Tensor, "masks width keys"] | None:
        """Keys that each query sees; one mask where all rows' prompts are equally long.

        Padding behind a completion is seen by padding only.
        """
        if self.prefixes is None:
            return None
        width = self.queries.index.shape[1]
        shared = self.prefixes.is_real
        shared = shared[:1] if bool(shared.all()) else shared
        own = torch.ones(width, width, dtype=torch.bool).tril()
        parts = (shared[:, None].expand(-1, width, -1), own.expand(len(shared), -1, -1))
        return torch.cat(parts, dim=-1)


def _buckets(segments: Sequence[Segment]) -> Iterator[_Bucket]:
    """Rows of similar length, together no longer than a wave unless one row is."""
    members: dict[tuple[int, ...], list[Segment]] = {}
    for segment in segments:
        members.setdefault(_size_class(segment), []).append(segment)
    for similar in members.values():
        widest = max(len(s.prefix) for s in similar) + max(len(s.own) for s in similar)
        count = max(1, _WAVE // widest)
        for first in range(0, len(similar), count):
            rows = similar[first : first + count]
            has_prefix = bool(rows[0].prefix)
            yield _Bucket(
                Padded.of([row.own for row in rows]),
                Padded.of([row.prefix for row in rows]) if has_prefix else None,
            )


def _size_class(segment: Segment) -> tuple[int, ...]:
    """Equal for segments that may be padded to one another.

    Long rows are padded along one axis at most: of prompts none, of completions their own, so that
    rows share one mask.
    """
    prefix, own = len(segment.prefix), len(segment.own)
    is_small = own * (prefix + own) <= _SMALL
    own_class = own if not prefix and not is_small else size_class(own)
    return (is_small, size_class(prefix) if is_small else prefix, own_class)


def _waves(buckets: Sequence[_Bucket]) -> Iterator[list[_Bucket]]:
    wave, size = [], 0
    for bucket in buckets:
        added = bucket.width * len(bucket.queries.index)
        if wave and size + added > _WAVE:
            yield wave
            wave, size = [], 0
        wave.append(bucket)
        size += added
    yield wave


@dataclass(frozen=True, slots=True)
class _Wave:
    """Buckets whose queries, keys and values are gathered at once, for one gradient each."""

    queries: Gather
    keys: Gather
    batches: "tuple[_Batch, ...]"

    @classmethod
    def of(cls, buckets: Sequence[_Bucket], length: int, device: torch.device) -> "_Wave":
        def gather(padded: Sequence[Padded]) -> Gather:
            index = torch.cat([part.index.flatten() for part in padded])
            is_real = torch.cat([part.is_real.flatten() for part in padded])
            return Gather.of(index, is_real, length, device)

        return cls(
            queries=gather([bucket.queries for bucket in buckets]),
            keys=gather([bucket.keys for bucket in buckets]),
            batches=tuple(_Batch.of(bucket, device) for bucket in buckets),
        )

    def attend(
        self,
        query: Float[Tensor, "seq heads dim"],
        key: Float[Tensor, "seq kv_heads dim"],
        value: Float[Tensor, "seq kv_heads dim"],
        scaling: float,
    ) -> Iterator[Tensor]:
        """Outputs of each bucket, at padding too, `[slots, heads, dim]`."""
        asking = self.queries(query).split([batch.num_queries for batch in self.batches])
        num_keys = [batch.num_keys for batch in self.batches]
        asked = self.keys(key).split(num_keys), self.keys(value).split(num_keys)
        for batch, q, k, v in zip(self.batches, asking, *asked, strict=True):
            yield batch.attend(q, k, v, scaling)


@dataclass(frozen=True, slots=True)
class _Batch:
    """One call of SDPA."""

    rows: int
    num_queries: int
    """Of all rows."""
    num_keys: int
    mask: Bool[Tensor, "masks width keys"] | None
    """None where rows are causal."""

    @classmethod
    def of(cls, bucket: _Bucket, device: torch.device) -> "_Batch":
        rows, width = bucket.queries.index.shape
        mask = bucket.mask
        mask = None if mask is None else mask.to(device)
        return cls(rows, rows * width, rows * bucket.width, mask)

    def attend(
        self,
        query: Float[Tensor, "slots heads dim"],
        key: Float[Tensor, "key_slots kv_heads dim"],
        value: Float[Tensor, "key_slots kv_heads dim"],
        scaling: float,
    ) -> Float[Tensor, "slots heads dim"]:
        by_head = "(rows seq) heads dim -> rows heads seq dim"
        keys, values = (rearrange(state, by_head, rows=self.rows) for state in (key, value))
        if self.mask is None:
            output = scaled_dot_product_attention(
                rearrange(query, by_head, rows=self.rows), keys, values,
                is_causal=True, scale=scaling, enable_gqa=True,
            )  # fmt: skip
            return rearrange(output, "rows heads seq dim -> (rows seq) heads dim")
        # The query heads of a key head stand side by side as more queries: kernels that take a
        # mask would repeat the keys for each of them, or give up their fused form.
        group = query.shape[1] // key.shape[1]
        by_kv_head = "(rows seq) (kv_heads group) dim -> rows kv_heads (group seq) dim"
        queries = rearrange(query, by_kv_head, rows=self.rows, group=group)
        mask = self.mask.repeat(1, group, 1)[:, None]
        output = scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scaling)
        back = "rows kv_heads (group seq) dim -> (rows seq) (kv_heads group) dim"
        return rearrange(output, back, group=group)
