import pytest
import torch

from lit_vdistill.models.plans import two_pass
from lit_vdistill.models.plans.two_pass import TwoPassAttention

CPU = torch.device("cpu")
LAYOUTS = {
    "uneven": [(7, (4, 1, 6)), (5, (3,)), (9, (2, 2))],
    "long beside short": [(40, (30, 25, 1, 3)), (3, (31, 2)), (41, (30,)), (2, (90,)), (35, (29,))],
    "a group without a completion": [(4, ()), (6, (0, 3))],
}


def gradients_of(output, states):
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((output * weights.to(output)).sum(), states)


@pytest.mark.parametrize("wave", [two_pass._WAVE, 40], ids=["one wave", "many waves"])
@pytest.mark.parametrize("small", [two_pass._SMALL, 100], ids=["mask a row", "shared masks"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_it_equals_the_mask_that_it_never_builds(
    name, small, wave, groups_of, states_of, masked_attention, monkeypatch
):
    monkeypatch.setattr(two_pass, "_WAVE", wave)
    monkeypatch.setattr(two_pass, "_SMALL", small)
    groups = groups_of(*LAYOUTS[name])
    states = states_of(groups[-1].stop, torch.float64)
    plan = TwoPassAttention(groups, CPU)
    assert (len(plan.waves) > 1) == (wave == 40 and groups[-1].stop > 20)
    output, expected = plan.attend(0, *states, 0.3), masked_attention(groups, *states, 0.3)
    torch.testing.assert_close(output, expected, atol=1e-13, rtol=0)
    for ours, theirs in zip(
        gradients_of(output, states), gradients_of(expected, states), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_equal_input_gives_equal_bits(groups_of, states_of):
    groups = groups_of(*LAYOUTS["long beside short"])
    states = states_of(groups[-1].stop)

    def run():
        output = TwoPassAttention(groups, CPU).attend(0, *states, 0.3)
        return output, *gradients_of(output, states)

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_groups_of_similar_length_are_few_calls_with_little_padding(groups_of, monkeypatch):
    """24 prompts of about 90 tokens with 8 completions of about 50, as in the demo."""
    calls = []
    stock = two_pass.scaled_dot_product_attention

    def counted(query, key, *others, **options):
        calls.append(query.shape[0] * query.shape[2] * key.shape[2])
        return stock(query, key, *others, **options)

    monkeypatch.setattr(two_pass, "scaled_dot_product_attention", counted)
    lengths = torch.Generator().manual_seed(0)
    drawn = [torch.randint(30, 70, (8,), generator=lengths).tolist() for _ in range(24)]
    groups = groups_of(*((86 + i % 8, tuple(c)) for i, c in enumerate(drawn)))
    query = torch.randn(1, 2, groups[-1].stop, 4)
    TwoPassAttention(groups, CPU).attend(0, query, query, query, 0.5)
    needed = sum(
        sum(own * (g.prompt_length + own) for own in g.completion_lengths) + g.prompt_length**2
        for g in groups
    )
    assert len(calls) <= 16
    assert sum(calls) < 1.25 * needed


def test_copies_of_keys_are_bounded(groups_of, monkeypatch):
    """A long prompt with many completions is several waves; one row may be longer than a wave."""
    monkeypatch.setattr(two_pass, "_WAVE", 1000)
    plan = TwoPassAttention(groups_of((900, (50,) * 8), (1200, (40, 45))), CPU)
    sizes = [wave.keys.index.numel() for wave in plan.waves]
    assert all(
        size <= 1000 or [batch.rows for batch in wave.batches] == [1]
        for size, wave in zip(sizes, plan.waves, strict=True)
    )
