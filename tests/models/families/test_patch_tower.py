import copy

import numpy as np
import pytest

from lit_vdistill.models.encode import encode_prompt
from lit_vdistill.models.families import patch_tower
from lit_vdistill.models.families.patch_tower import speed_up_tower
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.tiny import build_tiny_model
from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
from lit_vdistill.types import Medium
from tests.families import QWEN


@pytest.mark.parametrize("family", QWEN)
def test_a_faster_tower_computes_the_same(family, make_prompt):
    """Videos of unequal size, whose frames (and, for Qwen2.5-VL, windows) differ in number."""
    processor = load_processor(f"tiny/{family}")
    edge = 84 if family == "qwen2.5-vl" else 64
    medium = Medium(
        "video", np.full((4, edge, 2 * edge, 3), 9, dtype=np.uint8), (0.0, 1.0, 2.0, 3.0)
    )
    content = [{"type": "video"}]
    wide = encode_prompt(processor, [{"role": "user", "content": content}], medium, "wide")
    prompts = [make_prompt(processor, "a"), make_prompt(processor, "b", "image"), wide]
    stock = build_tiny_model(family)
    faster = copy.deepcopy(stock)
    speed_up_tower(faster, faster.model.visual)
    assert faster.state_dict().keys() == stock.state_dict().keys()

    def outputs_and_gradients(model):
        features = [prompt.features for prompt in encode_vision(model.model, prompts)]
        parts = [part for f in features for level in (f.pooled, *f.deepstack) for part in level]
        model.zero_grad()
        sum((part * part.detach().sign()).sum() for part in parts).backward()
        gradients = [p.grad for p in model.model.visual.parameters()]
        return [part.detach() for part in parts], gradients

    ours, theirs = outputs_and_gradients(faster), outputs_and_gradients(stock)
    for mine, other in zip([*ours[0], *ours[1]], [*theirs[0], *theirs[1]], strict=True):
        assert (mine - other).norm() <= 1e-5 * other.norm()


def test_neighbours_of_one_size_are_one_call(make_prompt, monkeypatch):
    calls = []
    stock = patch_tower.scaled_dot_product_attention
    monkeypatch.setattr(
        patch_tower,
        "scaled_dot_product_attention",
        lambda q, *a, **k: calls.append(len(q)) or stock(q, *a, **k),
    )
    model = load_model(VLMConfig("tiny/qwen3-vl"))
    depth = model.config.vision_config.depth
    processor = load_processor("tiny/qwen3-vl")
    video, other = (make_prompt(processor, name, frames=8) for name in "ab")
    encode_vision(model.model, [video, other])
    assert calls == [8] * depth
    calls.clear()
    wide = np.zeros((4, 64, 96, 3), dtype=np.uint8)
    content = [{"type": "video"}]
    medium = Medium("video", wide, (0.0, 0.5, 1.0, 1.5))
    wider = encode_prompt(processor, [{"role": "user", "content": content}], medium, "wide")
    encode_vision(model.model, [video, wider, other])
    assert calls == [4, 2, 4] * depth
