"""One token a row through a language model, without what transformers adds to each call.

At one token that is a seventh of a small network's time: checks of arguments, masks that no plan
reads, positions turned into angles anew. The network's own modules do the arithmetic.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lit_vdistill.models.families import Backbone, family_of
from lit_vdistill.rollouts.shared_cache import RolloutCache


def is_decodable(backbone: Backbone) -> bool:
    """Whether `TokenDecoder` computes what the network's own forward pass would."""
    language_model, known = backbone.language_model, family_of(backbone.config).decoder_layers
    return (
        all(type(layer) in known for layer in language_model.layers)
        and language_model.rotary_emb.rope_type == "default"
    )


class TokenDecoder:
    """The layers of a language model over the next token of every row.

    Calls its modules' parts, not layers or attention themselves: their hooks do not run.
    """

    def __init__(self, backbone: Backbone, positions: Int[Tensor, " rows"], limit: int) -> None:
        """Turn all positions into angles at once.

        Args:
            backbone: One for which `is_decodable` holds.
            positions: Of the first token of each row.
            limit: Tokens that a row may have.
        """
        self.model, self.family = backbone.language_model, family_of(backbone.config)
        self.first = int(positions.min())
        span = int(positions.max()) - self.first + limit
        places = torch.arange(self.first, self.first + span, device=positions.device)
        cosine, sine = self.family.rotary(self.model, places)
        half = sine.shape[-1] // 2
        # Rotating by halves is x cos + (-x₂, x₁) sin: the sign goes into the table.
        self.cosine = cosine[:, None]
        self.sine = torch.cat([-sine[:, :half], sine[:, half:]], dim=-1)[:, None]

    def __call__(
        self, ids: Int[Tensor, " rows"], positions: Int[Tensor, " rows"], cache: RolloutCache
    ) -> Float[Tensor, "rows hidden"]:
        """Last hidden states of these tokens; the cache takes their keys and values."""
        angles = self.cosine[positions - self.first], self.sine[positions - self.first]
        hidden = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            normed = layer.input_layernorm(hidden)
            hidden = hidden + self.family.mix_token(layer, normed, angles, cache)
            # Experts count sequences.
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden)[None])[0]
        return self.model.norm(hidden)
