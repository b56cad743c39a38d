from copy import deepcopy
from typing import get_args

import pytest
import torch

from lit_vdistill.models.discriminator import LIKELIHOOD_SCALE, Discriminator, ReadOut
from lit_vdistill.models.forward import completion_states
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.tokens import response_ids
from lit_vdistill.models.vlm import VLMConfig, load_model

TEXTS = ("<think>t</think><answer>B</answer>", "<think>red</think><answer>A red disc</answer>")


@pytest.fixture
def case(families, make_prompt):
    """Two prompts, one of them a text, with responses of unlike lengths."""
    processor = families["qwen3-vl"][1]
    prompts = [make_prompt(processor, "a"), make_prompt(processor, "b", kind="text")]
    rows = [Row(i, response_ids(processor, text)) for i in (0, 1) for text in TEXTS]
    return prompts, rows


def build(read_out, **config):
    torch.manual_seed(0)
    return Discriminator(load_model(VLMConfig("tiny/qwen3-vl", **config)), read_out)


@pytest.mark.parametrize("read_out", get_args(ReadOut))
def test_every_read_out_trains_all_that_it_holds(case, read_out):
    """A parameter without a gradient hangs some sharded strategies."""
    discriminator = build(read_out)
    scores = discriminator(*case)
    assert scores.shape == (4,)
    assert scores.dtype == torch.float32
    (scores * torch.tensor([1.0, -1.0, 2.0, -2.0])).sum().backward()
    assert all(p.grad is not None for p in discriminator.parameters() if p.requires_grad)


def test_the_papers_read_out_is_a_head_on_the_last_tokens_state(case):
    discriminator = build("last_token")
    final = completion_states(discriminator.backbone, *case, discriminator.pad_id).final
    torch.testing.assert_close(discriminator(*case), final @ discriminator.head.weight[0])


def test_the_mean_is_over_the_states_at_a_responses_tokens(case):
    """One row alone, token by token: padding and the prompt's last state have no part in it."""
    discriminator, (prompts, rows) = build("mean_token"), case
    row = rows[1]
    ids = row.completion_ids
    states = [
        completion_states(discriminator.backbone, prompts, [Row(0, ids[:n])], 0).final[0]
        for n in range(1, len(ids) + 1)
    ]
    expected = torch.stack(states).mean(dim=0) @ discriminator.head.weight[0]
    torch.testing.assert_close(discriminator(prompts, rows)[1], expected, rtol=1e-4, atol=1e-5)


def test_the_head_starts_as_wide_as_scores_are():
    """A state has a norm of √hidden behind the last norm: scores of any network vary by about 1."""
    for size in ("1m", "76m"):
        torch.manual_seed(0)
        model = load_model(VLMConfig(f"tiny/qwen3-vl/{size}"))
        weight = Discriminator(model, "last_token").head.weight
        assert float(weight.detach().norm()) == pytest.approx(1.0, rel=0.2)


def test_a_bfloat16_network_ties_no_unequal_texts(families, make_prompt):
    """Its states are rounded; the score of each is not: 3.4 % of unequal texts tied."""
    processor = families["qwen3-vl"][1]
    discriminator = build("last_token", dtype="bfloat16").bfloat16()
    prompts = [make_prompt(processor, "a")]
    texts = [f"<think>{i} red {i * i}</think><answer>{i}</answer>" for i in range(120)]
    with torch.no_grad():
        scores = discriminator(prompts, [Row(0, response_ids(processor, t)) for t in texts])
        with torch.autocast("cpu", torch.bfloat16):
            mixed = discriminator(prompts, [Row(0, response_ids(processor, t)) for t in texts])
    assert scores.dtype == mixed.dtype == torch.float32
    assert len(set(scores.tolist())) == len(set(mixed.tolist())) == len(texts)


@pytest.mark.parametrize("read_out", ["likelihood", "likelihood_mean_token"])
def test_an_untrained_likelihood_is_what_stage_1_has_learnt(case, read_out):
    """The mean log-probability of a response's tokens under the student, times the factor."""
    torch.manual_seed(0)
    student = load_model(VLMConfig("tiny/qwen3-vl"))
    discriminator = Discriminator(deepcopy(student), read_out)
    scores = completion_logprobs(student, *case)
    mean = torch.stack([v[m].mean() for v, m in zip(scores.logprobs, scores.mask, strict=True)])
    torch.testing.assert_close(discriminator(*case), LIKELIHOOD_SCALE * mean)
