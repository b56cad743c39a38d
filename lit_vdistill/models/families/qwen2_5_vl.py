"""Qwen2.5-VL: positions of a video count its seconds; boxes are pixels of the frame."""

from typing import ClassVar

from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLDecoderLayer

from lit_vdistill.models.families.family import Backbone
from lit_vdistill.models.families.qwen_vl import QwenVL
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.responses.writing import BoxUnits


class Qwen25VL(QwenVL):
    """`model_type` qwen2_5_vl; arXiv:2502.13923."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    processor: ClassVar[str] = "Qwen2_5_VLProcessor"
    box_units: ClassVar[BoxUnits] = "pixels"
    decoder_layers: ClassVar[tuple[type[nn.Module], ...]] = (Qwen2_5_VLDecoderLayer,)

    def pace(self, backbone: Backbone, prompt: EncodedPrompt) -> float:
        """Its positions along time are seconds, times a rate."""
        seconds = 1.0 if prompt.second_per_grid is None else prompt.second_per_grid
        return seconds * backbone.config.vision_config.tokens_per_second
