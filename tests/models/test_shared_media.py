from dataclasses import replace

import pytest
import torch

from lit_vdistill.models import meter
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.shared_media import by_medium, share_media
from tests.families import gradient_bound

QUESTIONS = ["When is the red shape visible?", "When is the blue disc there?", "Where?"]


@pytest.fixture
def asked(family, make_prompt):
    """Three questions about one video, one about another, two texts and an image, mixed."""
    _, processor = family

    def of(name, question, **kind):
        return make_prompt(processor, name, question=question, **kind)

    return [
        of("a", QUESTIONS[0]),
        of("t", QUESTIONS[0], kind="text"),
        of("b", QUESTIONS[1], frames=4),
        of("a", QUESTIONS[1]),
        of("t", QUESTIONS[0], kind="text"),
        of("a", QUESTIONS[2]),
        of("i", QUESTIONS[2], kind="image"),
    ]


ROWS = [
    *(Row(index, (300 + index, 301, 302)) for index in range(7)),
    Row(3, (310,), (320, 321)),
    Row(0, (330, 331), (340,)),
]


def test_every_token_is_as_probable_as_alone_and_has_the_same_gradient(family, asked):
    model, _ = family
    fewer, rows = share_media(asked, ROWS)
    assert len(fewer) == 5
    found = []
    for of, said in ((asked, ROWS), (fewer, rows)):
        model.zero_grad()
        scores = completion_logprobs(model, of, said)
        (scores.logprobs * scores.logprobs.detach()).sum().backward()
        found.append((scores.logprobs, {n: p.grad.clone() for n, p in model.named_parameters()}))
    (alone, alone_gradients), (shared, gradients) = found
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=0)
    for name, gradient in gradients.items():
        expected = alone_gradients[name]
        error = (gradient - expected).norm() / expected.norm().clamp(min=1e-8)
        assert error < gradient_bound(name), name


def test_the_tower_looks_once_at_a_medium(family, asked):
    model, _ = family
    meter.read()
    with torch.no_grad():
        completion_logprobs(model, *share_media(asked, ROWS[:7]))
    counts = meter.read()
    patches = {
        prompt.sample_id: int(prompt.grid_thw.prod(dim=-1).sum())
        for prompt in asked
        if prompt.grid_thw is not None
    }
    assert counts["vision_patches"] == sum(patches.values())
    assert counts["vision_patches_by_row"] == sum(patches.values()) + 2 * patches["a"]


def test_equal_questions_share_all_of_their_prompt(family, make_prompt):
    prompts = [make_prompt(family[1], "a"), make_prompt(family[1], "a")]
    fewer, rows = share_media(prompts, [Row(0, (300,)), Row(1, (301,))])
    assert [len(prompt.input_ids) for prompt in fewer] == [len(prompts[0].input_ids)]
    assert rows == [Row(0, (300,)), Row(0, (301,))]


def test_questions_that_part_before_the_medium_ends_stay_apart(family, make_prompt):
    first = make_prompt(family[1], "a")
    ids = first.input_ids.clone()
    ids[1] += 1
    fewer, rows = share_media(
        [first, replace(first, input_ids=ids)], [Row(1, (300,)), Row(0, (301,))]
    )
    assert len(fewer) == 2
    assert rows == [Row(1, (300,)), Row(0, (301,))]


def test_one_that_parts_leaves_the_others_together(family, make_prompt):
    asked = [make_prompt(family[1], "a", question=question) for question in QUESTIONS]
    ids = asked[1].input_ids.clone()
    ids[1] += 1
    asked[1] = replace(asked[1], input_ids=ids)
    assert by_medium(asked) == [[0, 2], [1]]


def test_what_nobody_has_named_is_shared_with_nothing(family, make_prompt):
    strangers = [replace(make_prompt(family[1], "a"), medium=None)] * 2
    assert by_medium(strangers) == [[0], [1]]
