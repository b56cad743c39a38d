import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.rollouts.engine import SamplingConfig, rollout_uniforms, token_turns
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine, _inverse_cdf
from tests.families import FAMILIES, stock_media

SAMPLING = SamplingConfig(max_completion_tokens=12)


@pytest.fixture(params=FAMILIES)
def family(request, families):
    return families[request.param]


@pytest.fixture
def prompts(family, make_prompt):
    processor = family[1]
    return [
        make_prompt(processor, "a"),
        make_prompt(processor, "b", "text", "How many shapes are there?"),
        make_prompt(processor, "c", "image", frames=2),
        make_prompt(processor, "d", frames=4),
    ]


@pytest.fixture
def engine(family):
    return HFRolloutEngine(*family)


@contextmanager
def count_calls(target, name):
    """Calls of a method, as the arguments of each."""
    calls, original = [], getattr(target, name)
    setattr(target, name, lambda *args: calls.append(args) or original(*args))
    yield calls
    delattr(target, name)


def test_greedy_equals_stock_generate_token_by_token(engine, prompts, true_positions):
    greedy = SamplingConfig(max_completion_tokens=12, temperature=0.0)
    for prompt, (rollout,) in zip(
        prompts, engine.generate(prompts, 1, greedy, seed=0), strict=True
    ):
        inputs = {"input_ids": prompt.input_ids[None]}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs |= stock_media(engine.model, prompt)
        if f"{prompt.kind}_grid_thw" in inputs:
            inputs["mm_token_type_ids"] = prompt.token_types[None]
        if prompt.second_per_grid is not None:
            inputs["second_per_grid_ts"] = torch.tensor([prompt.second_per_grid])
        ids = engine.model.generate(**inputs, do_sample=False, max_new_tokens=12)[0]
        assert rollout.completion_ids == tuple(ids[len(prompt.input_ids) :].tolist())


def test_a_prompt_draws_the_same_whatever_stands_beside_it(engine, prompts):
    together = engine.generate(prompts, 3, SAMPLING, seed=5)
    for prompt, group in zip(prompts, together, strict=True):
        (alone,) = engine.generate([prompt], 3, SAMPLING, seed=5)
        assert [r.completion_ids for r in alone] == [r.completion_ids for r in group]
    assert engine.generate(prompts, 3, SAMPLING, seed=6) != together


@pytest.mark.parametrize("num_turns", [2, 3])
def test_rollouts_do_not_depend_on_the_turns(engine, prompts, num_turns):
    costs = [len(prompt.input_ids) + 3 * 12 for prompt in prompts]
    assert len(set(costs)) == len(costs)
    bounds = range(max(costs), sum(costs))
    bound = next(b for b in bounds if len(token_turns(costs, b)) == num_turns)
    with count_calls(engine, "_generate_turn") as calls:
        in_turns = engine.generate(prompts, 3, replace(SAMPLING, max_tokens=bound), seed=5)
    assert len(calls) == num_turns
    at_once = engine.generate(prompts, 3, SAMPLING, seed=5)
    for ours, theirs in zip(in_turns, at_once, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.rollout_logprobs == pytest.approx(other.rollout_logprobs, abs=1e-5)
            assert replace(one, rollout_logprobs=()) == replace(other, rollout_logprobs=())


def test_a_group_beyond_the_bound_is_refused(engine, prompts):
    cost = len(prompts[0].input_ids) + 3 * 12
    with pytest.raises(ValueError, match=f"sample a: .* are {cost} .*raise it to {cost}"):
        engine.generate(prompts, 3, replace(SAMPLING, max_tokens=cost - 1), seed=0)


def test_rows_that_finish_leave_and_are_recorded_whole(engine, prompts):
    """The end of sequence made likely: rows stop at different steps."""
    model, eos = engine.model, engine.tokenizer.eos_token_id
    original = model.lm_head.forward

    def biased(hidden):
        logits = original(hidden).clone()
        logits[..., eos] += 6.0
        return logits

    model.lm_head.forward = biased
    try:
        rollouts = [r for group in engine.generate(prompts, 8, SAMPLING, seed=1) for r in group]
        alone = engine.generate([prompts[3]], 8, SAMPLING, seed=1)[0]
    finally:
        model.lm_head.forward = original
    lengths = {len(r.completion_ids) for r in rollouts}
    assert len(lengths) > 3
    assert [r.completion_ids for r in alone] == [r.completion_ids for r in rollouts[24:]]
    for rollout in rollouts:
        assert len(rollout.rollout_logprobs) == len(rollout.completion_ids)
        assert rollout.is_truncated == (rollout.completion_ids[-1] != eos)
        assert eos not in rollout.completion_ids[:-1]
        assert "<|im_end|>" not in rollout.text


def test_vision_placeholders_are_never_sampled(engine, prompts):
    banned = set(engine.banned.tolist())
    config = engine.model.config
    assert {
        config.image_token_id,
        getattr(config, "video_token_id", config.image_token_id),
    } <= banned
    hot = SamplingConfig(max_completion_tokens=12, temperature=50.0)
    ids = {
        i for g in engine.generate(prompts, 16, hot, seed=0) for r in g for i in r.completion_ids
    }
    assert not ids & banned


def test_generation_leaves_the_model_in_its_mode(engine, prompts):
    engine.model.train()
    engine.generate(prompts[:1], 1, SAMPLING, seed=0)
    assert engine.model.training


def test_inverse_cdf_by_hand():
    logits = torch.tensor([0.5, 0.3, 0.2]).log().expand(4, 3)
    points = torch.tensor([0.0, 0.49, 0.51, 0.99], dtype=torch.float64)
    assert _inverse_cdf(logits, points, 1.0).tolist() == [0, 0, 1, 2]
    # top_p 0.6 keeps the first two, renormalised to 0.625 and 0.375.
    assert _inverse_cdf(logits, points, 0.6).tolist() == [0, 0, 0, 1]
    assert _inverse_cdf(logits, points, 0.5).tolist() == [0, 0, 0, 0]
    assert _inverse_cdf(logits, points, 1.0, top_k=2).tolist() == [0, 0, 0, 1]
    assert _inverse_cdf(logits, points, 1.0, top_k=1).tolist() == [0, 0, 0, 0]
    assert _inverse_cdf(logits, points, 1.0, top_k=9).tolist() == [0, 0, 1, 2]
    # Of the best two the first alone is 0.625: the nucleus is taken of what is left.
    assert _inverse_cdf(logits, points, 0.6, top_k=2).tolist() == [0, 0, 0, 0]


def test_log_probabilities_are_of_the_whole_vocabulary_whatever_is_drawn_from(engine, prompts):
    narrow = replace(SAMPLING, top_k=3, top_p=0.8)
    (group,) = engine.generate(prompts[:1], 4, narrow, seed=0)
    rows = [Row(0, rollout.completion_ids) for rollout in group]
    with torch.no_grad():
        scores = completion_logprobs(engine.model, prompts[:1], rows)
    for rollout, known in zip(group, scores.logprobs, strict=True):
        told = torch.tensor(rollout.rollout_logprobs)
        torch.testing.assert_close(told, known[: len(told)], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "value", [{"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}, {"temperature": math.nan}]
)
def test_a_config_that_draws_nothing_is_refused(value):
    ((name, _),) = value.items()
    with pytest.raises(ValueError, match=rf"sampling\.{name} is .*, expected "):
        SamplingConfig(**value)


def test_random_numbers_are_a_stream_a_rollout():
    uniforms = rollout_uniforms(1, "s", 3, 5)
    assert torch.equal(uniforms[:2, :3], rollout_uniforms(1, "s", 2, 3))
    assert uniforms.unique().numel() == 15


def test_turns_are_few_and_in_order():
    assert token_turns([3, 3, 4, 1, 9, 1], 10) == [slice(0, 3), slice(3, 5), slice(5, 6)]
    assert token_turns([11, 2, 8], 10) == [slice(0, 1), slice(1, 3)]
    assert token_turns([], 10) == []
