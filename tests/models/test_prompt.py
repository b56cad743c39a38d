from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_vdistill.models.encode import _check_placeholders, encode_prompt
from lit_vdistill.models.families import family_of_processor
from lit_vdistill.models.prompt import PromptFeatures
from lit_vdistill.models.tokens import response_ids
from lit_vdistill.types import Medium
from tests.families import FAMILIES

MESSAGES = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "When?"}]}]


def medium(processor, times):
    edge = family_of_processor(processor).frame_factor(processor)
    return Medium("video", np.zeros((len(times), edge, edge, 3), dtype=np.uint8), tuple(times))


def test_timestamps_are_the_true_times(families):
    """Uneven times, as in a variable-rate file: 0.0 and 0.7 share a patch, then 3.1 and 9.5."""
    _, processor = families["qwen3-vl"]
    prompt = encode_prompt(processor, MESSAGES, medium(processor, [0.0, 0.7, 3.1, 9.5]), "s")
    text = processor.tokenizer.decode(prompt.input_ids)
    assert "<0.3 seconds>" in text
    assert "<6.3 seconds>" in text


def test_seconds_a_grid_are_the_true_ones(families):
    _, processor = families["qwen2.5-vl"]
    prompt = encode_prompt(processor, MESSAGES, medium(processor, [0.0, 4.0, 8.0, 12.0]), "s")
    assert prompt.second_per_grid == pytest.approx(8.0)


def test_a_single_frame_is_a_video_too(families):
    for name, (_, processor) in families.items():
        prompt = encode_prompt(processor, MESSAGES, medium(processor, [0.0]), "s")
        assert (prompt.token_types == 2).sum() == (9 if name == "internvl3.5" else 1)


def test_lost_placeholders_are_an_error_that_names_the_sample(families, make_prompt):
    _, processor = families["qwen3-vl"]
    prompt = make_prompt(processor, "clip-7")
    cut = replace(prompt, token_types=torch.zeros_like(prompt.token_types))
    with pytest.raises(ValueError, match="sample clip-7: .* placeholders for .* features"):
        _check_placeholders(cut, processor)


def test_a_medium_without_any_token_is_an_error_that_names_the_sample(families, make_prompt):
    _, processor = families["qwen3-vl"]
    prompt = make_prompt(processor, "v1")
    nothing = replace(
        prompt,
        token_types=torch.zeros_like(prompt.token_types),
        grid_thw=torch.zeros_like(prompt.grid_thw),
    )
    with pytest.raises(ValueError, match="sample v1: nothing is left of its medium"):
        _check_placeholders(nothing, processor)


def test_moving_a_prompt_moves_all_its_tensors(families, make_prompt):
    prompt = make_prompt(families["qwen3-vl"][1], "a")
    part = torch.zeros(2, 3)
    looked = replace(prompt, features=PromptFeatures((part,), ((part,),), torch.tensor(0.0)))
    for moved in (prompt.to("meta"), looked.to("meta")):
        tensors = [moved.input_ids, moved.token_types, moved.pixels, moved.grid_thw]
        if moved.features is not None:
            tensors += [*moved.features.pooled, *moved.features.deepstack[0], moved.features.anchor]
        assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_pixels_stay_until_a_tower_has_looked(families, make_prompt):
    prompt = make_prompt(families["qwen3-vl"][1], "clip-7")
    with pytest.raises(ValueError, match=r"clip-7: its pixels are needed until encode_vision"):
        prompt.without_pixels()
    looked = replace(prompt, features=PromptFeatures((), ())).without_pixels()
    assert looked.pixels is None
    assert looked.grid_thw is prompt.grid_thw


def test_responses_end_once(families):
    _, processor = families["qwen3-vl"]
    eos = processor.tokenizer.eos_token_id
    ids = response_ids(processor, "<answer>B</answer>")
    assert ids[-1] == eos
    assert ids == response_ids(processor, "<answer>B</answer><|im_end|>")
    assert response_ids(processor, "<answer>B</answer>", is_complete=False) == ids[:-1]
    assert torch.tensor(ids).eq(eos).sum() == 1


def test_a_placeholder_in_a_teachers_text_stays_text(families):
    _, processor = families["qwen3-vl"]
    ids = response_ids(processor, "see <|video_pad|> here")
    assert processor.video_token_id not in ids
    assert processor.tokenizer.decode(ids) == "see <|video_pad|> here<|im_end|>"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("steps", [(True, True), (True, False), (False, True), (False, False)])
def test_a_tower_reads_what_the_processor_would_have_made(
    families, make_prompt, monkeypatch, name, kind, steps
):
    """From a quarter of the memory: to the last bit, or where it only rescales to rounding."""
    processor = families[name][1]
    part = processor.video_processor if kind == "video" else processor.image_processor
    rescales, normalizes = steps
    monkeypatch.setattr(part, "do_rescale", rescales)
    monkeypatch.setattr(part, "do_normalize", normalizes)
    monkeypatch.setattr(part, "image_mean", [0.481, 0.457, 0.408])
    monkeypatch.setattr(part, "image_std", [0.268, 0.261, 0.275])
    seen = {}
    call = type(processor).__call__

    def both(self, **inputs):
        seen["plain"] = call(self, **inputs)
        own = {k: v for k, v in inputs.items() if k not in ("do_rescale", "do_normalize")}
        seen["whole"] = call(self, **own)
        return seen["plain"]

    monkeypatch.setattr(type(processor), "__call__", both)
    prompt = make_prompt(processor, "clip", kind, frames=5)  # as images, five
    key = "pixel_values_videos" if "pixel_values_videos" in seen["whole"] else "pixel_values"
    assert prompt.pixels.dtype == torch.uint8
    off = 0.0 if normalizes else 1e-7
    expected = seen["whole"][key].float().flatten(1)
    torch.testing.assert_close(prompt.tower_input(), expected, rtol=off, atol=0)
    assert prompt.tower_input().std() > 0
