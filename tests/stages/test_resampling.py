import math

import pytest
import torch

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.stages import OnPolicyModule
from lit_vdistill.stages.on_policy import PolicyLossConfig

REWARDS = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>t</think><answer>A</answer>"
POLICY = VLMConfig("tiny/qwen3-vl", verify_shared_prefix="never")


@pytest.fixture
def step_of(prepare, script, batch_of):
    """Takes one step; sample i has a signal where told so, the window has the first two."""

    def build(has_signal, resample, *, frozen=False, reduction="token_mean"):
        torch.manual_seed(0)
        loss = PolicyLossConfig(
            group_size=2, kl_coef=0.1, resample_no_signal=resample, reduction=reduction
        )
        policy = VLMConfig(POLICY.path, freeze_vision=frozen, verify_shared_prefix="never")
        stage = prepare(OnPolicyModule(policy, REWARDS, loss=loss))
        texts = {f"s{i}": [RIGHT if s else WRONG, WRONG] for i, s in enumerate(has_signal)}
        script(stage, texts)
        items = batch_of(*[["B"]] * len(has_signal)).items
        further = iter(items[2:])
        found = []

        def source(count):
            return PromptBatch(tuple(next(further) for _ in range(count)))

        turn = WindowTurn(PromptBatch(items[:2]), source=source)
        turn.on_draw = found.append
        stage.training_step(turn, 0).backward()
        stage.drawn = found
        return stage, turn

    return build


def ids(batch):
    return [item.sample.id for item in batch.items]


@pytest.mark.parametrize("frozen", [False, True])
def test_what_teaches_nothing_is_replaced_by_further_prompts(step_of, frozen):
    """The second of three that are drawn for s1 has a signal; the third is not drawn."""
    stage, turn = step_of([True, False, False, True, True], 2, frozen=frozen)
    assert stage.engine.asked == [["s0", "s1"], ["s2"], ["s3"]]
    assert [group.sample.id for group in stage.window.experience.groups] == ["s0", "s3"]
    assert ids(stage.window.experience.batch) == ["s0", "s3"]
    assert ids(turn.window) == ["s0", "s3"]
    assert stage.window.experience.weights == (1.0, 1.0)
    assert stage._values["rollout/resampled"] == 2 / 2
    assert stage._values["rollout/no_signal"] == 0.0
    assert stage.window.counts["sequences"] == 4


def test_a_window_with_signals_draws_nothing(step_of):
    stage, _ = step_of([True, True, True], 2)
    assert stage.drawn == []
    assert stage._values["rollout/resampled"] == 0.0


@pytest.mark.parametrize(("resample", "drawn"), [(1, [2]), (2, [2, 2])])
def test_at_most_so_many_windows_are_drawn(step_of, resample, drawn):
    stage, _ = step_of([False] * 8, resample)
    assert [len(batch) for batch in stage.drawn] == drawn
    assert stage._values["rollout/resampled"] == resample
    assert stage.window.experience.weights == (0.0, 0.0)


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "token_sum_over_limit"])
def test_what_stays_without_signal_counts_for_nothing(step_of, reduction):
    """Neither in gradients, KL included, nor in what averages divide by."""
    stage, _ = step_of([True, False, False, False], 1, reduction=reduction)
    assert stage.window.experience.weights == (1.0, 0.0)
    group = stage.window.experience.groups[0]
    assert stage.window.counts == {
        "sequences": 2.0,
        "tokens": float(sum(len(r.completion_ids) for r in group.rollouts)),
        "token_limit": 2.0 * stage.sampling.max_completion_tokens,
    }
    alone, turn = step_of([True, False], 0, reduction=reduction)
    alone.zero_grad()
    alone.training_step(WindowTurn(PromptBatch(turn.window.items[:1])), 0).backward()
    assert alone.window.counts == stage.window.counts
    for name in ("train/loss", "kl/ref"):
        assert stage._values[name] == pytest.approx(alone._values[name], abs=1e-7)
    for one, other in zip(stage.policy.parameters(), alone.policy.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    assert stage._values["rollout/no_signal"] == 0.5


def test_a_step_in_which_nothing_has_a_signal_moves_nothing(step_of):
    stage, _ = step_of([False] * 4, 1)
    assert stage._values["train/loss"] == 0.0
    assert not math.isnan(stage._values["kl/ref"])
    assert not any(p.grad.any() for p in stage.policy.parameters())
