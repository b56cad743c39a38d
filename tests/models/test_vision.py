import copy

import pytest

from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.tiny import build_tiny_model
from lit_vdistill.models.vision import speed_up_vision
from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor


@pytest.mark.parametrize("family", ["qwen3-vl", "qwen2.5-vl"])
def test_a_faster_tower_computes_the_same(family, make_prompt):
    """Videos of unequal size, whose frames (and, for Qwen2.5-VL, windows) differ in number."""
    processor = load_processor(f"tiny/{family}")
    prompts = [make_prompt(processor, "a"), make_prompt(processor, "b", "image")]
    stock = build_tiny_model(family)
    faster = copy.deepcopy(stock)
    speed_up_vision(faster)
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


def test_frames_of_one_size_are_one_call(make_prompt, monkeypatch):
    from lit_vdistill.models import vision

    calls = []
    stock = vision.scaled_dot_product_attention
    monkeypatch.setattr(
        vision, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or stock(*a, **k)
    )
    model = load_model(VLMConfig("tiny/qwen3-vl"))
    prompt = make_prompt(load_processor("tiny/qwen3-vl"), "a", frames=8)
    encode_vision(model.model, [prompt, prompt])
    assert len(calls) == model.config.vision_config.depth
