"""Real students of a million parameters and more, built offline from nothing.

The classes are those of transformers; only the sizes, the tokenizer and the random weights are
ours. What `build_tiny_model` and `build_tiny_processor` return behaves as a loaded checkpoint.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from lit_vdistill.models.tiny_tokenizer import CHAT_TEMPLATE, INTERNVL_TEMPLATE, build_tokenizer

TINY_FAMILIES = ("qwen3-vl", "qwen3-vl-moe", "qwen2.5-vl", "qwen3.5", "qwen3.5-moe", "internvl3.5")


@dataclass(frozen=True, slots=True)
class _Size:
    hidden: int
    layers: int
    head_dim: int
    kv_heads: int
    tower_hidden: int
    tower_layers: int


TINY_SIZES = {
    "1m": _Size(128, 3, 32, 2, 96, 2),
    "4m": _Size(256, 4, 32, 4, 128, 2),
    "76m": _Size(640, 12, 64, 5, 384, 6),
}
"""By name: `tiny/qwen3-vl` is `tiny/qwen3-vl/1m`."""

_TILE = 96
"""Pixels: side of InternVL's tile here."""


def build_tiny_model(name: str) -> PreTrainedModel:
    """A student whose weights come from torch's global random state.

    Args:
        name: One of `TINY_FAMILIES`, and after a slash one of `TINY_SIZES`.

    Raises:
        ValueError: For an unknown family or size.
    """
    family, size = _parse(name)
    tokenizer = build_tokenizer(family)
    model = _BUILDERS[family.removesuffix("-moe")](tokenizer, size, family.endswith("-moe"))
    generation = model.generation_config
    assert generation is not None
    generation.eos_token_id, generation.pad_token_id = (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    return model


def build_tiny_processor(name: str) -> ProcessorMixin:
    """The processor of a tiny student: image and video processors, tokenizer, chat template.

    Raises:
        ValueError: For an unknown family or size.
    """
    family, _ = _parse(name)
    if family == "internvl3.5":
        return _internvl_processor()
    edge = 28 if family == "qwen2.5-vl" else 32
    pixels: dict[str, Any] = {
        "patch_size": edge // 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": edge * edge, "longest_edge": edge * edge * 768},
    }
    is_qwen3 = family != "qwen2.5-vl"
    video_class = Qwen3VLVideoProcessor if is_qwen3 else Qwen2VLVideoProcessor
    return (Qwen3VLProcessor if is_qwen3 else Qwen2_5_VLProcessor)(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=build_tokenizer(family),
        video_processor=video_class(**pixels, cap_pixels_per_frame=False),
        chat_template=CHAT_TEMPLATE,
    )


def _parse(name: str) -> tuple[str, _Size]:
    family, _, size = name.partition("/")
    if family not in TINY_FAMILIES:
        known = ", ".join(f"'tiny/{name}'" for name in TINY_FAMILIES)
        raise ValueError(f"model path 'tiny/{name}': unknown family, expected one of {known}")
    if (size or "1m") not in TINY_SIZES:
        raise ValueError(
            f"model path 'tiny/{name}': unknown size '{size}', expected one of {[*TINY_SIZES]}"
        )
    return family, TINY_SIZES[size or "1m"]


def _vision_config(size: _Size) -> dict[str, Any]:
    return {
        "depth": size.tower_layers, "hidden_size": size.tower_hidden,
        "intermediate_size": 2 * size.tower_hidden, "num_heads": max(4, size.tower_hidden // 64),
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": size.hidden,
        "initializer_range": 0.05,
    }  # fmt: skip


def _text_config(tokenizer: PreTrainedTokenizerFast, size: _Size) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": size.hidden,
        "intermediate_size": 3 * size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.hidden // size.head_dim,
        "num_key_value_heads": size.kv_heads,
        "max_position_embeddings": 32768,
        # About 1/sqrt(hidden) for the smallest: the usual 0.02 learns slowly this narrow.
        "initializer_range": 0.05 if size.hidden <= 256 else 0.02,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _rope(size: _Size, share: int = 1) -> dict[str, Any]:
    quarter = size.head_dim // (4 * share)
    section = [quarter, quarter // 2, quarter // 2]
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section}


def _token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    return {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}


def _experts(size: _Size) -> dict[str, Any]:
    """Four, of which each token takes two; together as many weights as a dense layer."""
    width = 3 * size.hidden // 4
    return {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": width,
        "shared_expert_intermediate_size": width,
        "norm_topk_prob": True,  # as checkpoints say it: vLLM reads it, transformers does so anyway
    }  # fmt: skip


def _built(
    kinds: tuple[Any, Any], text: dict[str, Any], vision: dict[str, Any],
    tokenizer: PreTrainedTokenizerFast,
) -> PreTrainedModel:  # fmt: skip
    config_class, model_class = kinds
    config = config_class(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **_token_ids(tokenizer)
    )
    return model_class(config)


def _qwen3_model(
    tokenizer: PreTrainedTokenizerFast, size: _Size, has_experts: bool
) -> PreTrainedModel:
    text = _text_config(tokenizer, size) | {
        "head_dim": size.head_dim,
        "rope_parameters": _rope(size) | {"mrope_interleaved": True},
    }
    vision = _vision_config(size) | {
        "patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    kinds = (
        (Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration)
        if has_experts
        else (Qwen3VLConfig, Qwen3VLForConditionalGeneration)
    )
    text |= _experts(size) if has_experts else {}
    model = _built(kinds, text, vision, tokenizer)
    # As large as the patches that they are added to: a small one is learnt too late to say where.
    torch.nn.init.normal_(model.model.visual.pos_embed.weight)
    return model


def _qwen2_5_model(
    tokenizer: PreTrainedTokenizerFast, size: _Size, has_experts: bool
) -> PreTrainedModel:
    text = _text_config(tokenizer, size) | {"rope_parameters": _rope(size)}
    vision = _vision_config(size) | {
        "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2,
    }  # fmt: skip
    kinds = (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration)
    return _built(kinds, text, vision, tokenizer)


def _qwen3_5_model(
    tokenizer: PreTrainedTokenizerFast, size: _Size, has_experts: bool
) -> PreTrainedModel:
    # As many heads of values as attention has of queries, half as many of keys: about as many
    # weights as attention of the same width.
    heads = size.hidden // size.head_dim
    rope = _rope(size, share=2) | {"mrope_interleaved": True, "partial_rotary_factor": 0.5}
    text = _text_config(tokenizer, size) | {
        "head_dim": size.head_dim,
        "rope_parameters": rope,
        "layer_types": [
            "full_attention" if place % 4 == 3 or place + 1 == size.layers else "linear_attention"
            for place in range(size.layers)
        ],
        "linear_num_key_heads": heads // 2,
        "linear_num_value_heads": heads,
        "linear_key_head_dim": size.head_dim,
        "linear_value_head_dim": size.head_dim,
    }
    vision = _vision_config(size) | {"patch_size": 16, "num_position_embeddings": 64}
    kinds = (
        (Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration)
        if has_experts
        else (Qwen3_5Config, Qwen3_5ForConditionalGeneration)
    )
    text |= _experts(size) if has_experts else {}
    model = _built(kinds, text, vision, tokenizer)
    torch.nn.init.normal_(model.model.visual.pos_embed.weight)
    return model


def _internvl_model(
    tokenizer: PreTrainedTokenizerFast, size: _Size, has_experts: bool
) -> PreTrainedModel:
    # Its decoder is Qwen3's.
    text = _text_config(tokenizer, size) | {"model_type": "qwen3", "head_dim": size.head_dim}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    vision = {
        "hidden_size": size.tower_hidden, "intermediate_size": 2 * size.tower_hidden,
        "num_hidden_layers": size.tower_layers,
        "num_attention_heads": max(4, size.tower_hidden // 64),
        "image_size": [_TILE, _TILE], "patch_size": [16, 16], "layer_scale_init_value": 1.0,
        "initializer_range": 0.05,
    }  # fmt: skip
    config = InternVLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True,
        image_token_id=tokenizer.get_vocab()["<IMG_CONTEXT>"],
        image_seq_length=(_TILE // 32) ** 2,
    )  # fmt: skip
    model = InternVLForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embeddings)
    return model


def _internvl_processor() -> ProcessorMixin:
    reading: dict[str, Any] = {
        "size": {"height": _TILE, "width": _TILE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**reading),
        tokenizer=build_tokenizer("internvl3.5"),
        video_processor=InternVLVideoProcessor(**reading),
        image_seq_length=(_TILE // 32) ** 2,
        chat_template=INTERNVL_TEMPLATE,
    )


_BUILDERS = {
    "qwen3-vl": _qwen3_model, "qwen2.5-vl": _qwen2_5_model, "qwen3.5": _qwen3_5_model,
    "internvl3.5": _internvl_model,
}  # fmt: skip
