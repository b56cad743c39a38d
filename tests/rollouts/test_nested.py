"""Questions about one medium: run together they draw what each draws alone."""

import pickle
from dataclasses import replace

import pytest
import torch

from lit_vdistill.models import meter
from lit_vdistill.models.forward import encode_vision
from lit_vdistill.rollouts import hf_engine
from lit_vdistill.rollouts.engine import SamplingConfig, medium_turns
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from tests.families import FAMILIES

SAMPLING = SamplingConfig(max_completion_tokens=8)
GREEDY = replace(SAMPLING, temperature=0.0)
LONG = "When is the blue disc there, and which of the digits stands beside it at the end?"
ASKED = [
    ("a", "video", "When is the red shape visible?"),
    ("t", "text", LONG),
    ("b", "video", "When is the red shape visible?"),
    ("a", "video", LONG),
    ("i", "image", LONG),
    ("c", "video", "Where?"),
    ("a", "video", "Where?"),
    ("i", "image", "Where?"),
    ("a", "video", LONG),
    ("b", "video", "Which shape?"),
]
"""Two videos and an image that are asked about several times, a video and a text alone; one
question stands there twice."""


@pytest.fixture(params=FAMILIES)
def family(request, families):
    return families[request.param]


@pytest.fixture
def engine(family):
    return HFRolloutEngine(*family)


@pytest.fixture
def prompts(family, make_prompt):
    made = [make_prompt(family[1], name, kind, question=text) for name, kind, text in ASKED]
    return [replace(prompt, sample_id=f"s{i}") for i, prompt in enumerate(made)]


def assert_alike(groups, others):
    for group, other in zip(groups, others, strict=True):
        for one, two in zip(group, other, strict=True):
            assert one.rollout_logprobs == pytest.approx(two.rollout_logprobs, abs=1e-5)
            assert replace(one, rollout_logprobs=()) == replace(two, rollout_logprobs=())


def alone(engine, prompts, count, sampling):
    return [engine.generate([prompt], count, sampling, seed=5)[0] for prompt in prompts]


@pytest.mark.parametrize(("count", "sampling"), [(1, GREEDY), (3, SAMPLING)])
def test_questions_about_one_medium_are_answered_as_each_alone(engine, prompts, count, sampling):
    together = engine.generate(prompts, count, sampling, seed=5)
    assert [group[0].sample_id for group in together] == [p.sample_id for p in prompts]
    assert_alike(together, alone(engine, prompts, count, sampling))


def test_so_they_are_by_the_networks_own_forward_pass(engine, prompts, monkeypatch):
    """As where weights are sharded and each token gathers them."""
    expected = engine.generate(prompts, 2, SAMPLING, seed=5)
    monkeypatch.setattr(hf_engine, "is_decodable", lambda backbone: False)
    assert_alike(engine.generate(prompts, 2, SAMPLING, seed=5), expected)


def test_rows_branches_and_trunks_leave_as_they_finish(engine, prompts, monkeypatch):
    eos, original = engine.tokenizer.eos_token_id, engine.model.lm_head.forward

    def biased(hidden):
        logits = original(hidden).clone()
        logits[..., eos] += 6.0
        return logits

    monkeypatch.setattr(engine.model.lm_head, "forward", biased)
    sampling = replace(SAMPLING, max_completion_tokens=16)
    together = engine.generate(prompts, 3, sampling, seed=1)
    assert len({len(rollout.completion_ids) for group in together for rollout in group}) > 4
    assert_alike(together, [engine.generate([p], 3, sampling, seed=1)[0] for p in prompts])


def test_every_medium_and_every_shared_token_is_run_once(engine, prompts):
    media = {prompt.medium: prompt for prompt in prompts if prompt.medium}
    assert len(media) == 4
    meter.read()
    engine.generate(prompts, 2, SAMPLING, seed=0)
    counts = meter.read()
    assert counts["vision_patches"] == sum(
        int(prompt.grid_thw.prod(dim=-1).sum()) for prompt in media.values()
    )
    tokens = sum(len(prompt.input_ids) for prompt in prompts)
    ends = [int(prompts[i].token_types.nonzero()[-1]) + 1 for i in (0, 0, 0, 2, 4)]
    assert counts["prompt_tokens"] <= tokens - sum(ends)
    assert counts["prompt_tokens_by_row"] == 2 * tokens


def test_keys_of_a_trunk_are_in_memory_once(engine, prompts):
    asked = [prompts[i] for i in (0, 3, 6)]
    with torch.no_grad():
        cache = engine._prefill(asked)[2]
    rollouts = hf_engine.RolloutCache(cache, 4, 8)
    (trunks,), (branches,) = (level.blocks for level in rollouts.levels)
    assert {len(keys) for keys in trunks.keys.values()} == {1}
    assert {len(keys) for keys in branches.keys.values()} == {3}
    rollouts.advance()
    rollouts.select(torch.tensor([1, 9, 10]))
    assert {len(keys) for keys in branches.keys.values()} == {2}


def test_prompts_that_share_nothing_have_no_second_level(engine, prompts):
    with torch.no_grad():
        cache = engine._prefill([prompts[i] for i in (0, 1, 2)])[2]
    assert len(hf_engine.RolloutCache(cache, 2, 8).levels) == 1


def test_no_rectangle_is_as_wide_as_another_mediums_questions(engine, prompts):
    """Three rows of each question: one, two and four questions a medium, in one call."""
    (turn,) = medium_turns(prompts, 0, 10**6)
    with torch.no_grad():
        cache = engine._prefill([prompts[i] for i in turn])[2]
    rollouts = hf_engine.RolloutCache(cache, 3, 8)
    assert [block.widest for block in rollouts.levels[0].blocks] == [3, 6, 12]
    rollouts.advance()
    rollouts.select(torch.tensor([0, 1, 7, 29]))
    assert [block.widest for block in rollouts.levels[0].blocks] == [2, 1, 1]


def test_turns_keep_a_mediums_questions_together_and_the_order(engine, prompts):
    longest = 3 * SAMPLING.max_completion_tokens
    whole = max(len(prompt.input_ids) for prompt in prompts) + 4 * (longest + 40)
    turns = medium_turns(prompts, longest, whole)
    assert len(turns) > 1
    assert sorted(i for turn in turns for i in turn) == list(range(len(prompts)))
    assert [0, 3, 6, 8] in [[i for i in turn if prompts[i].medium == prompts[0].medium]
                            for turn in turns]  # fmt: skip
    in_turns = engine.generate(prompts, 3, replace(SAMPLING, max_tokens=whole), seed=5)
    assert_alike(in_turns, engine.generate(prompts, 3, SAMPLING, seed=5))


def test_a_medium_with_more_questions_than_fit_is_cut(engine, prompts):
    longest = 3 * SAMPLING.max_completion_tokens
    tight = max(len(prompt.input_ids) for prompt in prompts) + longest
    turns = medium_turns([prompts[i] for i in (0, 3, 6, 8)], longest, tight)
    assert len(turns) > 1
    in_turns = engine.generate(prompts, 3, replace(SAMPLING, max_tokens=tight), seed=5)
    assert_alike(in_turns, engine.generate(prompts, 3, SAMPLING, seed=5))


def test_looking_together_gives_each_prompt_features_and_positions_of_its_own(engine, prompts):
    backbone = engine.model.model
    with torch.no_grad():
        seen = encode_vision(backbone, prompts)
        by_itself = [encode_vision(backbone, [prompt])[0] for prompt in prompts]
    for ours, its in zip(seen, by_itself, strict=True):
        torch.testing.assert_close(ours.features.pooled, its.features.pooled, atol=1e-5, rtol=1e-5)
        assert (ours.features.positions is None) == (its.features.positions is None)
        if ours.features.positions is not None:
            assert torch.equal(ours.features.positions, its.features.positions)
    assert_alike(
        engine.generate([prompt.without_pixels() for prompt in seen], 1, GREEDY, seed=5),
        engine.generate(prompts, 1, GREEDY, seed=5),
    )


def test_a_medium_is_known_by_all_that_is_read_of_it(families, make_prompt):
    processor = families["qwen3-vl"][1]
    first, other = (make_prompt(processor, "a", question=q) for q in ("Where?", "When?"))
    assert first.medium == other.medium is not None
    assert make_prompt(processor, "a", "text").medium is None
    others = [make_prompt(processor, "b"), make_prompt(processor, "a", "image"),
              make_prompt(processor, "a", frames=4)]  # fmt: skip
    assert len({first.medium, *(prompt.medium for prompt in others)}) == 4
    for same in (first.to("cpu"), first.clone(), pickle.loads(pickle.dumps(first))):
        assert same.medium == first.medium
