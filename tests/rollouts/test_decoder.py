from contextlib import nullcontext

import pytest
import torch

from lit_vdistill.rollouts import hf_engine
from lit_vdistill.rollouts.decoder import TokenDecoder, is_decodable
from lit_vdistill.rollouts.engine import SamplingConfig
from tests.families import FAMILIES


@pytest.fixture(params=FAMILIES)
def family(request, families):
    return families[request.param]


@pytest.mark.parametrize("precision", ["float32", "bf16-mixed"])
def test_the_decoder_draws_what_the_stock_forward_pass_does(
    family, make_prompt, monkeypatch, precision
):
    model, processor = family
    prompts = [make_prompt(processor, "a"), make_prompt(processor, "b", "text", "How many?")]
    engine = hf_engine.HFRolloutEngine(model, processor)
    mixed = torch.autocast("cpu", torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
    sampling = SamplingConfig(max_completion_tokens=10)
    calls = []
    original = TokenDecoder.__call__
    monkeypatch.setattr(
        TokenDecoder, "__call__", lambda *args: calls.append(args) or original(*args)
    )
    with mixed:
        ours = engine.generate(prompts, 4, sampling, seed=3)
        assert len(calls) == 9
        monkeypatch.setattr(hf_engine, "is_decodable", lambda backbone: False)
        stock = engine.generate(prompts, 4, sampling, seed=3)
    assert len(calls) == 9
    for one, other in zip((r for g in ours for r in g), (r for g in stock for r in g), strict=True):
        assert one.completion_ids == other.completion_ids
        assert one.rollout_logprobs == pytest.approx(other.rollout_logprobs, abs=1e-4)


def test_what_the_decoder_does_not_know_is_left_to_the_network(family):
    backbone = family[0].model
    assert is_decodable(backbone)

    class OtherLayer(type(backbone.language_model.layers[0])):
        pass

    layer = backbone.language_model.layers[0]
    kind = type(layer)
    layer.__class__ = OtherLayer
    try:
        assert not is_decodable(backbone)
    finally:
        layer.__class__ = kind
