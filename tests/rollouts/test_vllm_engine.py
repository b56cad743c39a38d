"""The engine against a stand-in that reads requests as vLLM does (`served_stand_in.py`)."""

import threading
import time
from copy import deepcopy

import pytest
import torch

from lit_vdistill.models.logprobs import gap_problem
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.rollouts.parity import gap_of
from lit_vdistill.rollouts.vllm_engine import VLLMRolloutEngine
from lit_vdistill.served.errors import ServedError
from tests.rollouts.served_stand_in import StandIn

SAMPLING = SamplingConfig(max_completion_tokens=12)
GREEDY = SamplingConfig(max_completion_tokens=12, temperature=0.0)
SERVED = ["qwen3-vl", "qwen2.5-vl", "qwen3-vl-moe"]


@pytest.fixture(params=SERVED)
def family(request, families):
    model, processor = families[request.param]
    return deepcopy(model), processor


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
def stand_in(family):
    server = StandIn(*family)
    yield server
    server.stop()


@pytest.fixture
def engine(family, stand_in):
    return VLLMRolloutEngine(*family, url=stand_in.url, patience_s=60.0)


def texts(groups):
    return [(r.text, r.completion_ids) for group in groups for r in group]


def moved(model, by=0.05):
    """All weights are others now, the tower's too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + by * torch.randn(parameter.shape, generator=generator))


def test_what_is_drawn_is_the_policys_own_before_and_after_each_change(family, prompts, engine):
    for _ in range(3):
        engine.synchronise()
        mean, largest = gap_of(engine, family[0], prompts, SAMPLING, 3)
        assert largest < 1e-4
        ours = HFRolloutEngine(*family).generate(prompts, 1, GREEDY, seed=0)
        assert texts(engine.generate(prompts, 1, GREEDY, seed=7)) == texts(ours)
        moved(family[0])


def test_a_group_comes_in_order_and_says_what_it_is(family, prompts, engine, stand_in):
    engine.synchronise()
    groups = engine.generate(prompts, 3, SAMPLING, seed=5)
    assert [[r.sample_id for r in group] for group in groups] == [
        [p.sample_id] * 3 for p in prompts
    ]
    assert [[r.index for r in group] for group in groups] == [[0, 1, 2]] * 4
    assert len({group[0].completion_ids for group in groups}) == 4
    eos = family[1].tokenizer.eos_token_id
    for rollout in (r for group in groups for r in group):
        assert rollout.is_truncated is (rollout.completion_ids[-1] != eos)
        said = rollout.completion_ids[: len(rollout.completion_ids) - (not rollout.is_truncated)]
        assert rollout.text == family[1].tokenizer.decode(said)
    assert engine.generate(prompts, 3, SAMPLING, seed=5) == groups
    assert engine.generate(prompts[2:], 3, SAMPLING, seed=5) == groups[2:]
    assert engine.generate(prompts, 3, SAMPLING, seed=6) != groups
    told = stand_in.requests[0]["sampling_params"]
    known = family[1].tokenizer.get_vocab()
    assert told["logit_bias"][str(known["<|video_pad|>"])] == -100.0
    assert (told["stop_token_ids"], told["ignore_eos"]) == ([eos], True)
    assert (told["top_p"], told["top_k"], told["temperature"]) == (1.0, 0, 1.0)


def test_weights_are_renewed_between_requests_by_four_phases(engine, stand_in, prompts):
    engine.synchronise()
    first = stand_in.version
    engine.synchronise()
    phases = ["/pause", "/start_weight_update", "/update_weights", "/finish_weight_update"]
    assert stand_in.calls == [*phases, "/resume"] * 2
    assert stand_in.version != first
    engine.generate(prompts, 1, SAMPLING, seed=0)
    # Nothing that older weights have made can be found under what the server keeps it by.
    assert {request["cache_salt"] for request in stand_in.requests} == {stand_in.version}
    seen = [r["features"]["mm_hashes"] for r in stand_in.requests if "features" in r]
    engine.synchronise()
    stand_in.requests.clear()
    engine.generate(prompts, 1, SAMPLING, seed=0)
    again = [r["features"]["mm_hashes"] for r in stand_in.requests if "features" in r]
    assert len(seen) == len(again) == 3
    every = [h for media in seen + again for hashes in media.values() for h in hashes]
    assert len(set(every)) == len(every)


def test_an_update_that_a_killed_run_has_left_open_is_closed(engine, stand_in, prompts):
    stand_in.has_begun = stand_in.is_paused = True
    engine.synchronise()
    assert not stand_in.has_begun
    engine.generate(prompts, 1, SAMPLING, seed=0)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("stale", "a text alone differs too"),
        ("stale tower", "sees other pixels, or has other weights"),
        ("normalises again", "--no-mm-device-do-normalize"),
        ("other positions", "other positions"),
    ],
)
def test_what_a_server_does_wrong_is_found_and_named(
    family, prompts, stand_in, engine, fault, cause
):
    stand_in.faults.add(fault)
    moved(family[0], 0.2)
    engine.synchronise()
    mean, largest = gap_of(engine, family[0], prompts, SAMPLING, 2)
    assert "differ by" in gap_problem(family[0], mean, largest, is_apart=True)
    assert cause in engine.likely_cause(prompts)


def test_a_server_that_dies_is_waited_for_and_gets_the_weights_again(
    family, prompts, stand_in, engine
):
    moved(family[0])
    engine.synchronise()
    expected = engine.generate(prompts, 2, SAMPLING, seed=1)
    stand_in.stop()
    threading.Timer(1.0, stand_in.start).start()
    assert engine.generate(prompts, 2, SAMPLING, seed=1) == expected
    assert stand_in.version != "default"


def test_a_server_that_has_begun_anew_unseen_is_told_by_its_label(
    family, prompts, stand_in, engine
):
    moved(family[0])
    engine.synchronise()
    expected = engine.generate(prompts, 2, SAMPLING, seed=1)
    stand_in.stop()
    stand_in.start()
    assert engine.generate(prompts, 2, SAMPLING, seed=1) == expected


def test_a_server_that_stays_away_stops_the_run_with_what_to_do(family, prompts, stand_in):
    engine = VLLMRolloutEngine(*family, url=stand_in.url, patience_s=4.0)
    engine.synchronise()
    stand_in.stop()
    begun_s = time.monotonic()
    with pytest.raises(ServedError, match=r"nobody answers .* for 4 s .*serve --student"):
        engine.generate(prompts, 1, SAMPLING, seed=1)
    assert 4 <= time.monotonic() - begun_s < 60
    stand_in.start()


def test_a_request_that_is_refused_says_why(prompts, stand_in, engine):
    engine.synchronise()
    stand_in.refusal = "The prompt is longer than the maximum model length of 64"
    with pytest.raises(ServedError, match=r"HTTP 400 .*maximum model length of 64"):
        engine.generate(prompts, 1, SAMPLING, seed=1)


def test_a_server_without_the_addresses_is_told(family):
    from tests.served.misbehaving_server import Server, fails

    with Server(fails(404)) as server:
        url = server.url.removesuffix("/v1")
        engine = VLLMRolloutEngine(*family, url=url, patience_s=1.0)
        with pytest.raises(ServedError, match="started without --rollouts"):
            engine.synchronise()


@pytest.mark.parametrize("url", ["localhost:8000", "http://localhost:8000/v1", "ftp://x"])
def test_an_address_that_is_none_is_refused(family, url):
    with pytest.raises(ValueError, match="url: expected http://HOST:PORT"):
        VLLMRolloutEngine(*family, url=url)
