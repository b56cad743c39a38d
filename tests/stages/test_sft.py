from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lit_vdistill import processes
from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.forward import completion_states
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.tokens import response_ids
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.responses.prompts import Telling, privileged_text
from lit_vdistill.rewards import Answer, GroundedFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import PrivilegedSFTModule, SFTModule
from lit_vdistill.stages.sft import TOLD_TOKENS
from lit_vdistill.stages.vlm_stage import VLMStage

POLICY = VLMConfig("tiny/qwen3-vl")
REWARDS = [Answer(), GroundedFormat()]


def stage_of(kind, prepare, step=0, **changes):
    torch.manual_seed(0)
    return prepare(kind(POLICY, REWARDS, sampling=SamplingConfig(), **changes), step=step)


def prompts_and_rows(stage, batch):
    """What a stage has its policy say to a batch."""
    stage.begin_step(WindowTurn(batch))
    rows = [replace(row, prompt=i) for i, rows in enumerate(stage.targets) for row in rows]
    return [stage.prompt_of(item) for item in batch.items], rows


def told_of(stage, batch):
    """What is said behind each question, the end of the turn left out."""
    _, rows = prompts_and_rows(stage, batch)
    tail = len(rows[0].context_ids)
    return [stage.processor.tokenizer.decode(row.context_ids[:-tail]) for row in rows[1::2]]


def test_the_loss_is_that_of_the_best_response(batch_of, prepare):
    stage = stage_of(SFTModule, prepare)
    batch = batch_of(["A", "B"])
    prompts, rows = prompts_and_rows(stage, batch)
    assert stage.processor.tokenizer.decode(rows[0].completion_ids).startswith(
        "<think>t</think><answer>B</answer>"
    )
    scores = completion_logprobs(stage.policy, prompts, rows)
    expected = -scores.logprobs[scores.mask].mean()
    torch.testing.assert_close(stage.training_step(WindowTurn(batch), 0), expected)
    assert stage._values["train/loss"] == pytest.approx(expected.item())
    assert stage._values["train/target_quality"] == 1.0


@pytest.mark.parametrize(("pool_size", "letter"), [(None, "B"), (2, "B"), (1, "A")])
def test_the_target_is_chosen_among_the_first_k_responses(batch_of, prepare, pool_size, letter):
    """K = 1 chooses nothing: GAD's stage 1 knows no truth either."""
    torch.manual_seed(0)
    stage = prepare(SFTModule(POLICY, REWARDS, pool_size=pool_size))
    _, (row,) = prompts_and_rows(stage, batch_of(["A", "B", "B"]))
    assert f"<answer>{letter}<" in stage.processor.tokenizer.decode(row.completion_ids)


def test_a_k_that_no_pool_has_is_refused(prepare, monkeypatch):
    monkeypatch.setattr(VLMStage, "on_train_start", lambda self: None)
    stage = prepare(SFTModule(POLICY, REWARDS, pool_size=5))
    pools = {"a": (1, 2), "b": (1, 2, 3, 4)}
    stage.trainer.datamodule = SimpleNamespace(train_set=SimpleNamespace(pools=pools))
    with pytest.raises(ValueError, match="model.pool_size 5: no sample .* more than 4 responses"):
        stage.on_train_start()


def test_every_target_is_learnt_without_and_with_what_is_told(batch_of, prepare):
    """The bare question scores as in plain SFT; what is told changes the other copy only."""
    plain, privileged = stage_of(SFTModule, prepare), stage_of(PrivilegedSFTModule, prepare)
    batch = batch_of(["A", "B"], ["B"])
    plain.policy = privileged.policy
    with torch.no_grad():
        bare = completion_logprobs(plain.policy, *prompts_and_rows(plain, batch))
        both = completion_logprobs(privileged.policy, *prompts_and_rows(privileged, batch))
    torch.testing.assert_close(both.logprobs[::2], bare.logprobs, atol=1e-5, rtol=0)
    assert (both.logprobs[1::2] - bare.logprobs).abs().max() > 1e-4
    nats = -bare.logprobs.sum(dim=1).mean().item()
    privileged.describe(both)
    details = privileged.metrics.reduced()
    assert details["nll/bare"] == pytest.approx(nats, rel=1e-5)
    assert details["nll/told"] == pytest.approx(-both.logprobs[1::2].sum(dim=1).mean().item())


def test_room_for_a_target_is_that_of_the_longest_and_twice_where_it_is_told(prepare):
    plain, privileged = stage_of(SFTModule, prepare), stage_of(PrivilegedSFTModule, prepare)
    texts = ["a", "a red dog runs to the left", "b"]
    length = len(response_ids(plain.processor, texts[1]))
    for stage, expected in ((plain, length), (privileged, 2 * length + TOLD_TOKENS)):
        pool = SimpleNamespace(longest_responses=lambda: texts)
        stage.trainer.datamodule = SimpleNamespace(train_set=pool)
        assert stage.piece_cost(100) == 100 + expected


def told_at(prepare, batch, step, told=Telling("feedback", "boxes", "earlier_answer")):
    """What is said behind the first question at a step."""
    return told_of(stage_of(PrivilegedSFTModule, prepare, step, told=told), batch)[0]


def test_how_much_is_told_varies_over_the_steps(batch_of, prepare):
    batch = batch_of(["A", "B"])
    told = [told_at(prepare, batch, step) for step in range(24)]
    assert all("The right answer is <answer>B</answer>" in text for text in told)
    assert {("<obj>dog</obj>" in t, "Feedback on an earlier" in t) for t in told} == {
        (False, False),
        (True, False),
        (True, True),
    }
    feedback = {t.split("Feedback on an earlier answer: ")[1] for t in told if "Feedback" in t}
    assert {"The option should be B" in text for text in feedback} == {True, False}
    assert told_at(prepare, batch, 0) == told[0]


def test_it_is_told_as_the_replay_will_tell_it_and_no_more(batch_of, prepare):
    batch = batch_of(["A", "B"])
    most = Telling("evidence", "times", "correction")
    told = {told_at(prepare, batch, step, most) for step in range(12)}
    text = privileged_text(batch.items[0].sample, most, None)
    assert told == {text}  # a letter's question is about no time, so evidence adds nothing
    all_told = [
        told_at(prepare, batch, s, replace(most, conditioning="feedback")) for s in range(9)
    ]
    added = {t.removeprefix(text).partition(": ")[0] for t in all_told}
    assert added == {"", "\nFeedback by which an answer to it is to be corrected"}


def test_questions_about_one_medium_share_it_and_learn_the_same(batch_of, prepare, make_prompt):
    """Beside a text, in one piece and in two, of which one shares nothing."""
    stage = stage_of(SFTModule, prepare)
    whole = batch_of(["B"], ["A"], ["B"], prompts=({}, {}, {"kind": "text"}))
    first, second, text = whole.items
    asked = make_prompt(stage.processor, "s0", question="Where is it?")
    second = replace(second, sample=replace(second.sample, media="s0"), prompt=asked)
    batch = PromptBatch((first, second, text))
    prompts, rows = prompts_and_rows(stage, batch)
    scores = completion_logprobs(stage.policy, prompts, rows)
    expected = (-scores.logprobs[scores.mask].mean()).item()
    for num_pieces in (1, 2):
        stage.trainer.accumulate_grad_batches = num_pieces
        for piece in range(num_pieces):
            turn = WindowTurn(batch, piece=piece, num_pieces=num_pieces)
            stage.training_step(turn, piece)
        assert stage._values["train/loss"] == pytest.approx(expected, rel=1e-5)
    patches = int(first.prompt.grid_thw.prod(dim=-1).sum())
    stage.trainer.accumulate_grad_batches = 1
    stage.training_step(WindowTurn(batch), 0)
    assert stage._values["shared/vision_patches"] == patches
    assert stage._values["shared/vision_patches_by_row"] == 2 * patches


def test_a_mixtures_routers_are_balanced_over_the_step_by_its_tokens(batch_of, prepare, take_step):
    """Two pieces of unequal length: each counts as the tokens that it trains."""
    torch.manual_seed(0)
    policy = VLMConfig("tiny/qwen3-vl-moe", router_loss_coef=0.5)
    stage = prepare(SFTModule(policy, REWARDS, sampling=SamplingConfig()))
    batch = batch_of(["B"], ["of all that there is the red dog that runs to the left"])
    prompts, rows = prompts_and_rows(stage, batch)
    scores = completion_logprobs(stage.policy, prompts, rows)
    apart = [
        completion_states(stage.policy.model, [prompt], [Row(0, row.completion_ids)], 0)
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    lengths = [len(row.completion_ids) for row in rows]
    losses = [states.router_loss.item() for states in apart]
    assert lengths[1] > 2 * lengths[0]
    assert abs(losses[0] - losses[1]) > 1e-3
    mean = sum(n * loss for n, loss in zip(lengths, losses, strict=True)) / sum(lengths)
    values = take_step(stage, batch, 2)
    assert values["router/balance"] == pytest.approx(mean, rel=1e-5)
    nats = -scores.logprobs[scores.mask].mean().item()
    assert values["train/loss"] == pytest.approx(nats + 0.5 * mean, rel=1e-5)


@pytest.mark.parametrize("elsewhere", [0.0, 3.0])
def test_the_check_of_sharing_is_made_by_all_processes_or_by_none(
    batch_of, prepare, monkeypatch, elsewhere
):
    """Weights that are sharded are gathered by all: one that checks alone would wait for ever."""
    stage, checked = stage_of(SFTModule, prepare), []
    monkeypatch.setattr(stage, "verify_once", lambda prompts, rows: checked.append(len(rows)))
    alone = processes.sum_over
    monkeypatch.setattr(
        processes,
        "sum_over",
        lambda values: (found := alone(values)) | {"shared": found["shared"] + elsewhere},
    )
    stage.training_step(WindowTurn(batch_of(["B"], ["A"])), 0)
    assert checked == ([2] if elsewhere else [])
