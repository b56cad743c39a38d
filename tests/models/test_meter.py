"""Counts of one forward pass and one generation, by hand."""

import pytest
import torch

from lit_vdistill.models import meter
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine


@pytest.fixture
def scene(families, make_prompt):
    """A video prompt and a text, with their lengths and the video's patches."""
    model, processor = families["qwen3-vl"]
    prompts = [make_prompt(processor, "a"), make_prompt(processor, "b", "text")]
    lengths = [len(prompt.input_ids) for prompt in prompts]
    meter.read()
    with torch.no_grad():
        yield model, processor, prompts, lengths, len(prompts[0].pixels)
    meter.read()


def counts(tokens, tokens_by_row, patches, patches_by_row):
    return {
        "prompt_tokens": tokens,
        "prompt_tokens_by_row": tokens_by_row,
        "vision_patches": patches,
        "vision_patches_by_row": patches_by_row,
    }


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_forward_pass(scene, monkeypatch, is_shared):
    model, _, prompts, (video, text), patches = scene
    if not is_shared:
        monkeypatch.setattr(model.model, "shared_prefix", "never")
    rows = [Row(p, ids) for p in (0, 1) for ids in ((300,), (301, 302), (303,))]
    completion_logprobs(model, prompts, rows)
    by_row = 3 * (video + text)
    run = video + text if is_shared else by_row
    assert meter.read() == counts(run, by_row, patches, 3 * patches)
    assert set(meter.read().values()) == {0}


def test_rollouts_and_training_behind_one_look(scene):
    model, processor, prompts, (video, text), patches = scene
    looked = encode_vision(model.model, prompts)
    sampling = SamplingConfig(max_completion_tokens=2)
    HFRolloutEngine(model, processor).generate(looked, 4, sampling, seed=0)
    completion_logprobs(model, looked, [Row(0, (300,)), Row(0, (301,))])
    # Training runs the video's prompt alone, as no row has the text; one look served all six rows.
    run, by_row = video + text + video, 4 * (video + text) + 2 * video
    assert meter.read() == counts(run, by_row, patches, 6 * patches)
