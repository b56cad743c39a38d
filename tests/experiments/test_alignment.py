import itertools
import math

import pytest
import torch

from experiments import alignment
from experiments.alignment import Alignment
from experiments.credit_conditions import CONDITIONS, TEACHERS, VERIFIER, log_ratios
from lit_vdistill.models.layout import Row
from lit_vdistill.models.tokens import plain_ids, response_ids

RIGHT = "<think>red</think><answer>B</answer>"
WRONG = "<think>blue</think><answer>A</answer>"


@pytest.fixture
def student(families):
    return families["qwen3-vl"]


@pytest.fixture
def sampled(batch_of, sampled_of):
    """Two questions, each answered rightly and wrongly."""
    return sampled_of(VERIFIER, batch_of(["B"], ["B"]), [RIGHT, WRONG], [WRONG, RIGHT])


def test_a_gradient_is_that_of_the_mean_log_likelihood(student, sampled):
    model, processor = student
    prompts = sampled.batch.prompts
    rows = [Row(0, response_ids(processor, RIGHT)), Row(1, response_ids(processor, WRONG + "!"))]
    factors = torch.tensor([[2.0], [-1.0]])
    zero, found = alignment.gradient(model, prompts, rows, [factors * 0, factors])
    assert not zero.any()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    expected = 0.0
    for row, factor in zip(rows, (2.0, -1.0), strict=True):
        logprobs = alignment.completion_logprobs(model, prompts, [row]).logprobs
        expected = expected + factor * logprobs.mean() / 2
    parts = torch.autograd.grad(expected, weights, allow_unused=True)
    by_hand = torch.cat([part.flatten() for part in parts if part is not None])
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-6)


def test_every_credit_has_a_cosine_and_none_is_grpos(student, sampled):
    truth = {"s0": RIGHT, "s1": RIGHT}
    ratios = log_ratios(*student, sampled, seed=0)
    found = alignment.aligned(*student, sampled, ratios, truth)
    assert [(item.dose, item.condition) for item in found] == [
        ("none", "grpo"), *((dose, name) for dose in alignment.DOSES for name in CONDITIONS),
    ]  # fmt: skip
    by_name = {(item.dose, item.condition): item for item in found}
    assert by_name["none", "grpo"].with_grpo == pytest.approx(1.0)
    assert all(-1.0 <= item.cosine <= 1.0 for item in found)
    # Right answers are better than wrong ones, so their likelihood rises.
    assert by_name["none", "grpo"].cosine > 0.1
    for name in CONDITIONS:
        if name == "constant":
            continue
        # What the bounds allow is what moves the gradient.
        assert by_name["wide", name].with_grpo <= by_name["paper", name].with_grpo + 1e-6
        assert by_name["paper", name].with_grpo > 0.9
    assert by_name["wide", "oracle"].with_grpo < by_name["paper", "oracle"].with_grpo < 1.0


def test_equal_rewards_have_no_gradient(student, batch_of, sampled_of):
    same = sampled_of(VERIFIER, batch_of(["B"], ["B"]), [RIGHT, RIGHT], [WRONG, WRONG])
    assert alignment.aligned(*student, same, {}, {}) == []


def test_the_oracle_knows_the_wrong_tokens_and_permuted_weights_stay_in_their_rollout(
    student, sampled
):
    found = log_ratios(*student, sampled, seed=0)
    assert set(found) == set(CONDITIONS)
    assert not found["constant"].any()
    told = [found[name] for name, teacher in TEACHERS.items() if teacher.view is None]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(told, 2))
    for row, rollout in enumerate(sampled.rollouts):
        length = len(rollout.completion_ids)
        assert found["oracle"][row].any() == (rollout.text == WRONG)
        assert not found["oracle"][row, length:].any()
        before, after = (found[name][row, :length] for name in ("feedback", "permuted"))
        assert not torch.equal(before, after)
        torch.testing.assert_close(before.sort()[0], after.sort()[0])
    letter = len(plain_ids(student[1], "<think>blue</think><answer>"))
    assert found["oracle"][1].nonzero().flatten().tolist() == [letter]


def test_gains_are_paired_by_window():
    cosines = [(0.1, 0.12), (0.3, 0.34)]
    found = [
        [Alignment("none", "grpo", a, 1.0), Alignment("wide", "oracle", b, 0.9)] for a, b in cosines
    ]
    told = alignment.report(found)
    oracle = told["wide/oracle"]
    assert (oracle.cosine, oracle.gained) == (pytest.approx(0.23), pytest.approx(0.03))
    assert oracle.gained_half == pytest.approx(12.7062 * 0.01, rel=1e-4)  # t of one degree
    assert told["none/grpo"].gained == 0.0
    assert "| wide/oracle | 0.230 | +0.030 ± 0.127 | 0.9000 |" in alignment.table(told)
    with pytest.raises(ValueError, match="got 1"):
        alignment.report(found[:1])


def test_true_responses_are_right(world):
    from lit_vdistill.readers.records import read_records
    from lit_vdistill.rewards import graded_quality
    from lit_vdistill.world.config import WorldConfig

    truth = alignment.true_responses(
        WorldConfig(train_videos=4, val_videos=1, test_videos=1), "val"
    )
    samples, _ = read_records(world / "val.jsonl")
    assert set(truth) == {sample.id for sample in samples}
    worth = [graded_quality(truth[sample.id], sample) for sample in samples]
    assert sum(value > 0.9 for value in worth) >= 8  # a box in pixels, its frame unknown here
    assert all(math.isfinite(value) for value in worth)
