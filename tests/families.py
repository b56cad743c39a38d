"""The tiny students that tests go through, one of each family and kind."""

import pytest

MODEL_TYPES = {
    "qwen3-vl": "qwen3_vl",
    "qwen3-vl-moe": "qwen3_vl_moe",
    "qwen2.5-vl": "qwen2_5_vl",
    "qwen3.5": "qwen3_5",
    "qwen3.5-moe": "qwen3_5_moe",
    "internvl3.5": "internvl",
}
_QUICK = ("qwen3-vl", "qwen3.5", "internvl3.5")
"""One of each layout: keys and values, a state, another house. The others are the matrix's."""
FAMILIES = [
    pytest.param(name, marks=() if name in _QUICK else pytest.mark.matrix) for name in MODEL_TYPES
]
ONE_PATH = [param for param in FAMILIES if "moe" not in param.values[0]]
"""Without those in which a token's rounding may choose another expert."""
QWEN = [param for param in FAMILIES if param.values[0].startswith("qwen")]
_DECAYS = ("linear_attn.A_log", "linear_attn.dt_bias", "linear_attn.in_proj_a.weight")


def gradient_bound(name):
    """How far two float32 gradients of one weight may be apart, relative.

    That of a delta net's decay is a sum that cancels to a thousandth: the stock network's own is so
    far from double precision.
    """
    return 1e-2 if name.endswith(_DECAYS) else 1e-4


def take_experts_in_turn(model):
    """Products of all experts at once know no double precision."""
    if hasattr(model.config.get_text_config(), "num_experts"):
        model.set_experts_implementation("eager")


def stock_media(model, prompt):
    """What a stock network is given of a prompt's media."""
    if prompt.kind == "text":
        return {}
    if model.config.model_type == "internvl":
        sides = model.config.vision_config.image_size
        return {"pixel_values": prompt.tower_input().unflatten(1, (3, *sides))}
    pixels = "pixel_values_videos" if prompt.kind == "video" else "pixel_values"
    return {pixels: prompt.tower_input(), f"{prompt.kind}_grid_thw": prompt.grid_thw}
