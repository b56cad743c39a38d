from dataclasses import replace

import pytest

from lit_vdistill.pool.quality import best_response, lexical_quality, score_responses
from lit_vdistill.types import TeacherResponse


def responses(*answers):
    return [
        TeacherResponse("s1", i, f"<think>t</think><answer>{a}</answer>", "m", 1.0, 0.9)
        for i, a in enumerate(answers)
    ]


def test_best_of_a_closed_ended_pool_is_the_first_of_the_best(make_sample):
    sample = make_sample("mcq", "B")
    pool = score_responses(sample, responses("A", "B", "B"))
    assert [scored.quality for scored in pool] == [0.0, 1.0, 1.0]
    assert best_response(sample, pool, seed=0).response.index == 1


def test_open_ended_targets_are_random_over_samples_but_fixed_for_each(make_sample):
    chosen = []
    for i in range(200):
        sample = replace(make_sample("open_ended", "a dog"), id=f"s{i}")
        pool = score_responses(sample, responses("x", "y", "z", "w"))
        assert {scored.quality for scored in pool} == {1.0}
        chosen.append(best_response(sample, pool, seed=3).response.index)
        assert best_response(sample, pool, seed=3).response.index == chosen[-1]
    assert {chosen.count(i) > 25 for i in range(4)} == {True}


def test_stage_1_refuses_an_empty_pool(make_sample):
    with pytest.raises(ValueError, match="sample s1: no teacher response"):
        best_response(make_sample(), (), seed=0)


def test_lexical_quality_is_overlap_within_the_envelope(make_sample):
    sample = make_sample("open_ended", "a dog runs")
    assert lexical_quality("<think>t</think><answer>a dog runs</answer>", sample) == 1.0
    assert 0 < lexical_quality("<think>t</think><answer>a cat runs</answer>", sample) < 1
    assert lexical_quality("a dog runs", sample) == 0.0
