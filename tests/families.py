"""The tiny students that tests go through, one of each family."""

FAMILIES = ("qwen3-vl", "qwen3-vl-moe", "qwen2.5-vl", "qwen3.5", "qwen3.5-moe", "internvl3.5")
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
