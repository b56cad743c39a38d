"""The families of networks that can be loaded, each a file here."""

from typing import Any

from torch import nn
from transformers import ProcessorMixin

from lit_vdistill.models.families.family import Backbone as Backbone
from lit_vdistill.models.families.family import Family as Family
from lit_vdistill.models.families.family import MediaFeatures as MediaFeatures
from lit_vdistill.models.families.internvl import InternVL
from lit_vdistill.models.families.qwen2_5_vl import Qwen25VL
from lit_vdistill.models.families.qwen3_5 import Qwen35
from lit_vdistill.models.families.qwen3_vl import Qwen3VL

FAMILIES: tuple[Family, ...] = (Qwen3VL(), Qwen35(), Qwen25VL(), InternVL())
_BY_TYPE = {name: family for family in FAMILIES for name in family.model_types}
_BY_PROCESSOR = {family.processor: family for family in reversed(FAMILIES)}


def family_of(config: Any) -> Family:
    """The family of a network, by its config.

    Raises:
        ValueError: For one that no file here is about.
    """
    if config.model_type not in _BY_TYPE:
        raise ValueError(
            f"'{config.model_type}' is of no family that is known, expected one of "
            f"{sorted(_BY_TYPE)}; another one is a file in lit_vdistill/models/families, which "
            "says where its tower is, how a prompt is put and how positions go on (CONTRIBUTING.md)"
        )
    return _BY_TYPE[config.model_type]


def tower_of(backbone: Backbone) -> nn.Module:
    """All that makes features of pixels in a network."""
    return family_of(backbone.config).tower(backbone)


def family_of_processor(processor: ProcessorMixin) -> Family:
    """The family whose prompts a processor makes.

    Raises:
        ValueError: For one that no file here is about.
    """
    name = type(processor).__name__
    if name not in _BY_PROCESSOR:
        raise ValueError(
            f"'{name}' is the processor of no family that is known, expected one of "
            f"{sorted(_BY_PROCESSOR)}; another one is a file in lit_vdistill/models/families"
        )
    return _BY_PROCESSOR[name]
