"""Qwen3.5: three of four layers are gated delta nets; tower and prompts are Qwen3-VL's."""

from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5DecoderLayer
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import (
    Qwen3_5MoeDecoderLayer,
    Qwen3_5MoeTopKRouter,
)

from lit_vdistill.models.families.delta_net import share_states
from lit_vdistill.models.families.qwen_vl import QwenVL
from lit_vdistill.models.families.token_step import Angles, TokenCache
from lit_vdistill.models.shared_prefix import AttentionKernel


class Qwen35(QwenVL):
    """Dense and mixtures of experts."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5", "qwen3_5_moe")
    processor: ClassVar[str] = "Qwen3VLProcessor"
    decoder_layers: ClassVar[tuple[type[nn.Module], ...]] = (
        Qwen3_5DecoderLayer, Qwen3_5MoeDecoderLayer,
    )  # fmt: skip
    routers: ClassVar[tuple[type[nn.Module], ...]] = (Qwen3_5MoeTopKRouter,)

    def prepare(self, model: PreTrainedModel, kernel: AttentionKernel) -> None:
        """See `Family.prepare`."""
        super().prepare(model, kernel)
        for layer in model.model.language_model.layers:
            if hasattr(layer, "linear_attn"):
                share_states(layer.linear_attn)

    def mix_token(self, layer: Any, hidden: Tensor, angles: Angles, cache: TokenCache) -> Tensor:
        """See `Family.mix_token`."""
        if layer.block_type != "linear_attention":
            return super().mix_token(layer, hidden, angles, cache)
        return layer.linear_attn(hidden[:, None], attention_plan=cache)[:, 0]
