"""One token a row through a Qwen-VL's language model, without what transformers adds to each call.

At one token that is a seventh of a small network's time: checks of arguments, masks that no plan
reads, positions turned into angles anew. The network's own modules do the arithmetic.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer

from lit_vdistill.rollouts.shared_cache import RolloutCache

_KNOWN_LAYERS = (Qwen3VLTextDecoderLayer, Qwen2_5_VLDecoderLayer)


def is_decodable(language_model: Any) -> bool:
    """Whether `TokenDecoder` computes what the network's own forward pass would."""
    return (
        all(type(layer) in _KNOWN_LAYERS for layer in language_model.layers)
        and language_model.rotary_emb.rope_type == "default"
    )


class TokenDecoder:
    """The layers of a language model over the next token of every row.

    Calls its modules' parts, not layers or attention themselves: their hooks do not run.
    """

    def __init__(self, language_model: Any, positions: Int[Tensor, " rows"], limit: int) -> None:
        """Turn all positions into angles at once.

        Args:
            language_model: Of a network for which `is_decodable` holds.
            positions: Of the first token of each row; text has one for all three axes of M-RoPE.
            limit: Tokens that a row may have.
        """
        self.model = language_model
        self.first = int(positions.min())
        span = int(positions.max()) - self.first + limit
        places = torch.arange(self.first, self.first + span, device=positions.device)
        like = language_model.embed_tokens.weight
        cosine, sine = language_model.rotary_emb(like, places.expand(3, 1, -1))
        half = sine.shape[-1] // 2
        # Rotating by halves is x cos + (-x₂, x₁) sin: the sign goes into the table.
        self.cosine = cosine[0, :, None]
        self.sine = torch.cat([-sine[0, :, :half], sine[0, :, half:]], dim=-1)[:, None]

    def __call__(
        self, ids: Int[Tensor, " rows"], positions: Int[Tensor, " rows"], cache: RolloutCache
    ) -> Float[Tensor, "rows hidden"]:
        """Last hidden states of these tokens; the cache takes their keys and values."""
        angles = self.cosine[positions - self.first], self.sine[positions - self.first]
        hidden = self.model.embed_tokens(ids)
        for index, layer in enumerate(self.model.layers):
            normed = layer.input_layernorm(hidden)
            hidden = hidden + self._attend(index, layer.self_attn, normed, angles, cache)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.model.norm(hidden)

    def _attend(
        self, index: int, attention: Any, hidden: Tensor, angles: tuple[Tensor, Tensor],
        cache: RolloutCache,
    ) -> Tensor:  # fmt: skip
        heads = (len(hidden), -1, attention.head_dim)
        query, key, value = (
            part(hidden).view(heads)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        if isinstance(getattr(attention, "q_norm", None), nn.Module):
            query, key = attention.q_norm(query), attention.k_norm(key)
        # Under autocast angles are float32: as plans have it, the values' type is the type.
        query, key = (_rotated(part, *angles).to(value.dtype) for part in (query, key))
        return attention.o_proj(cache.attend_rows(index, query, key, value, attention.scaling))


def _rotated(
    states: Float[Tensor, "rows heads dim"],
    cosine: Float[Tensor, "rows 1 dim"],
    signed_sine: Float[Tensor, "rows 1 dim"],
) -> Float[Tensor, "rows heads dim"]:
    swapped = states.roll(states.shape[-1] // 2, dims=-1)
    return states * cosine + swapped * signed_sine
