import pytest
import torch

from lit_vdistill.models.families.mrope import mrope_positions
from lit_vdistill.models.forward import rope_positions


def test_a_videos_times_push_the_text_behind_it():
    """The example of Qwen2.5-VL's authors, behind two tokens of text: times 0, 50 and 100.

    25 positions a second, two seconds a temporal patch; what follows stands at 101 and on.
    """
    types = torch.tensor([0, 0, *[2] * 12, 0, 0, 0])
    found = mrope_positions(types, torch.tensor([[3, 4, 4]]), merge_size=2, pace=25 * 2.0)
    times = [0] * 4 + [50] * 4 + [100] * 4
    height, width = [0, 0, 1, 1] * 3, [0, 1, 0, 1] * 3
    for axis, medium in enumerate((times, height, width)):
        expected = [0, 1, *[2 + place for place in medium], 103, 104, 105]
        assert found[axis].tolist() == expected


def test_a_frame_that_is_larger_than_its_video_is_long_does_so_too():
    types = torch.tensor([0, *[1] * 12, 0, *[1] * 2, 0])
    found = mrope_positions(types, torch.tensor([[1, 4, 12], [1, 4, 2]]), merge_size=2)
    assert found[0].tolist() == [0, *[1] * 12, 7, 8, 8, 10]
    assert found[1].tolist() == [0, *[1] * 6, *[2] * 6, 7, 8, 9, 10]
    assert found[2].tolist() == [0, *[1, 2, 3, 4, 5, 6] * 2, 7, 8, 8, 10]


def test_fractions_of_a_second_add_up():
    """Half a second a patch and two positions a second; 0.75 a patch, rounded down each time."""
    types, grid = torch.tensor([2, 2, 2, 2, 0]), torch.tensor([[4, 2, 2]])
    assert mrope_positions(types, grid, 2, pace=0.5 * 2)[0].tolist() == [0, 1, 2, 3, 4]
    assert mrope_positions(types, grid, 2, pace=0.75 * 2)[0].tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("kind", ["video", "image", "text"])
def test_qwen3_vl_is_as_transformers_has_it(families, make_prompt, kind):
    model, processor = families["qwen3-vl"]
    prompt = make_prompt(processor, "a", kind)
    ours, end = rope_positions(model.model, prompt)
    media = {} if kind == "text" else {f"{kind}_grid_thw": prompt.grid_thw}
    stock, delta = model.model.get_rope_index(
        prompt.input_ids[None], mm_token_type_ids=prompt.token_types[None], **media
    )
    assert torch.equal(ours, stock[:, 0])
    assert end == len(prompt.input_ids) + int(delta)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_qwen2_5_vl_differs_from_transformers_behind_a_video_alone(families, make_prompt, kind):
    model, processor = families["qwen2.5-vl"]
    prompt = make_prompt(processor, "a", kind)
    ours, end = rope_positions(model.model, prompt)
    seconds = {"second_per_grid_ts": [prompt.second_per_grid]} if kind == "video" else {}
    stock, _ = model.model.get_rope_index(
        prompt.input_ids[None],
        mm_token_type_ids=prompt.token_types[None],
        **{f"{kind}_grid_thw": prompt.grid_thw},
        **seconds,
    )
    media = prompt.token_types > 0
    behind = int(media.nonzero()[-1]) + 1
    assert torch.equal(ours[:, :behind], stock[:, 0, :behind])
    largest = int(ours[:, media].max())
    assert ours[0, behind:].tolist() == list(range(largest + 1, end))
    if kind == "video":  # 4 patches of a second, 2 positions each: beyond the frames' 2 x 2 tokens
        assert largest - int(ours[0, media].min()) == 6
    else:
        assert torch.equal(ours, stock[:, 0])
