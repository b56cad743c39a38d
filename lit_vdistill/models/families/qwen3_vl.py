"""Qwen3-VL: a video's times are text between its frames; boxes are thousandths of the frame."""

from typing import ClassVar

from torch import Tensor, nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextDecoderLayer
from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import (
    Qwen3VLMoeTextDecoderLayer,
    Qwen3VLMoeTextTopKRouter,
)

from lit_vdistill.models.families.qwen_vl import QwenVL


class Qwen3VL(QwenVL):
    """Dense and mixtures of experts; arXiv:2511.21631."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl", "qwen3_vl_moe")
    processor: ClassVar[str] = "Qwen3VLProcessor"
    decoder_layers: ClassVar[tuple[type[nn.Module], ...]] = (
        Qwen3VLTextDecoderLayer, Qwen3VLMoeTextDecoderLayer,
    )  # fmt: skip
    routers: ClassVar[tuple[type[nn.Module], ...]] = (Qwen3VLMoeTextTopKRouter,)

    def in_checkpoint(self, name: str, weight: Tensor) -> Tensor:
        """See `Family.in_checkpoint`: transformers turns experts as it reads them, never back."""
        is_turned = ".mlp.experts." in name and weight.ndim == 3
        return weight.transpose(1, 2).contiguous() if is_turned else weight
