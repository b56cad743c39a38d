import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import logsigmoid

from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.pool.matching import MatchingConfig
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.critique import critique, prompts_seen
from lit_vdistill.stages.matches import responses_asked
from lit_vdistill.stages.on_policy import OnPolicyModule, PolicyLossConfig
from lit_vdistill.stages.optimizer import QUIET
from lit_vdistill.stages.rmsd import DiscriminatorConfig, RMSDModule
from lit_vdistill.stages.step import Experience
from lit_vdistill.types import RolloutGroup

RIGHT = "<think>t</think><answer>B</answer>"
WRONG = "<think>t</think><answer>A</answer>"
REWARDS = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
POLICY = VLMConfig("tiny/qwen3-vl")


def rmsd(matching=MatchingConfig(), group_size=2, policy=POLICY, **disc):
    torch.manual_seed(0)
    return RMSDModule(
        policy,
        REWARDS,
        disc=DiscriminatorConfig(**({"warmup_max_steps": 0} | disc)),
        matching=matching,
        loss=PolicyLossConfig(group_size=group_size),
        sampling=SamplingConfig(max_completion_tokens=6),
    )


def wake(stage):
    """A discriminator that has an opinion."""
    if stage.discriminator.head is not None:
        torch.nn.init.normal_(
            stage.discriminator.head.weight, generator=torch.Generator().manual_seed(1)
        )
    return stage


def both(stage, sampled):
    """D of rollouts and of teacher responses."""
    matches = stage.match_teachers(sampled)
    said = critique(
        stage.discriminator, stage.processor, sampled, matches, stage.disc_config.condition
    )
    return said.students, said.teachers


def test_equal_text_scores_equal_to_the_bit(batch_of, sampled_of, prepare):
    stage = wake(prepare(rmsd()))
    batch = batch_of(["B", "A"])
    sampled = sampled_of(REWARDS, batch, [RIGHT, WRONG])
    students, teachers = both(stage, sampled)
    # Only the right response passes the threshold; it is the first rollout's text.
    assert len(teachers[0]) == 1
    assert teachers[0][0] == students[0, 0]
    assert students[0, 0] != students[0, 1]


def test_equal_text_with_other_tokens_scores_equal_too(batch_of, rollouts_of, prepare):
    """The policy may spell a text by tokens that the tokenizer would not choose."""
    stage = wake(prepare(rmsd()))
    batch = batch_of(["B"])
    (one, other) = rollouts_of("s0", [RIGHT, RIGHT])
    spelled = replace(
        other, completion_ids=(*stage.processor.tokenizer("<").input_ids, *one.completion_ids)
    )
    group = RolloutGroup(batch.items[0].sample, (one, spelled))
    sampled = Experience(batch, (group,), (({}, {}),))
    students, _ = both(stage, sampled)
    assert students[0, 0] == students[0, 1]


def test_composite_reward_by_hand(batch_of, sampled_of, prepare, window_of):
    stage = wake(prepare(rmsd()))
    sampled = sampled_of(REWARDS, batch_of(["B", "B"]), [RIGHT, WRONG])
    window_of(stage, sampled)
    scores = stage.score_groups(sampled)
    students, teachers = both(stage, sampled)
    paid = torch.sigmoid(students - teachers[0][0]).detach()
    assert paid[0, 0].item() == 0.5
    expected = torch.tensor([[0.6, 0.2]]) + 0.4 * paid
    torch.testing.assert_close(scores.rewards, expected)


def test_discriminator_loss_by_hand(batch_of, sampled_of, prepare, window_of):
    stage = wake(prepare(rmsd(pair_weight="q")))
    sampled = sampled_of(REWARDS, batch_of(["B"]), [RIGHT, WRONG])
    students, teachers = both(stage, sampled)
    expected = -(logsigmoid(teachers[0][0] - students[0])).mean()
    window_of(stage, sampled)
    scores = stage.score_groups(sampled)
    torch.testing.assert_close(scores.auxiliary_loss, expected)
    values = stage.metrics.reduced()
    assert values["disc/loss"] == pytest.approx(expected.item())
    assert values["disc/pair_weight"] == 1.0
    # The first pair is equal text: a tie, which says nothing about accuracy.
    assert values["disc/ties"] == 0.5
    assert values["disc/accuracy"] == float(teachers[0][0] > students[0, 1])


@pytest.mark.parametrize("condition", ["video_question", "question", "none"])
def test_the_discriminator_sees_what_the_config_says(
    condition, batch_of, sampled_of, prepare, window_of
):
    """When it scores, and when it is called for others' sake alone."""
    stage = wake(prepare(rmsd(condition=condition)))
    batch = batch_of(["B"])
    sampled = sampled_of(REWARDS, batch, [RIGHT, WRONG])
    window_of(stage, sampled)
    seen = []
    stage.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    stage.score_groups(sampled)
    stage.touch_auxiliary(sampled)
    expected = prompts_seen(stage.processor, batch.items, condition)
    assert len(seen) == 2
    for prompts in seen:
        assert [p.input_ids.tolist() for p in prompts] == [p.input_ids.tolist() for p in expected]


def test_its_gradient_is_quiet_where_all_are_clipped_as_one(
    batch_of, sampled_of, prepare, window_of, monkeypatch
):
    """Under DeepSpeed, whose only norm is the common one: see `VLMStage.beside_policy`."""
    stage = wake(prepare(rmsd()))
    sampled = sampled_of(REWARDS, batch_of(["B"]), [RIGHT, WRONG])
    window_of(stage, sampled)
    found = {}
    for is_common in (False, True):
        monkeypatch.setattr(stage, "_is_clipped_as_one", lambda value=is_common: value)
        loss = stage.score_groups(sampled).auxiliary_loss
        (gradient,) = torch.autograd.grad(loss, [stage.discriminator.head.weight])
        (eps,) = [g["eps"] for g in stage.parameter_groups() if g["name"] == "disc"]
        found[is_common] = (loss.detach(), gradient, eps)
    assert found[True][0] == found[False][0]
    torch.testing.assert_close(found[True][1], found[False][1] * QUIET)
    assert found[True][1].any()
    assert found[True][2] == found[False][2] * QUIET


def test_truncated_rollouts_make_no_pair_and_earn_the_least(
    batch_of, sampled_of, prepare, window_of
):
    stage = wake(prepare(rmsd(group_size=3)))
    sampled = sampled_of(REWARDS, batch_of(["B"]), [RIGHT, WRONG, "<think>t…"])
    window_of(stage, sampled)
    scores = stage.score_groups(sampled)
    paid = torch.tensor(scores.columns["reward/disc"])[0]
    assert paid[2] == paid[:2].min()
    students, teachers = both(stage, sampled)
    expected = -logsigmoid(teachers[0][0] - students[0, :2]).mean()
    torch.testing.assert_close(scores.auxiliary_loss, expected)


def test_an_empty_pool_pays_nothing_and_still_touches_the_discriminator(
    batch_of, sampled_of, prepare, window_of
):
    stage = wake(prepare(rmsd()))
    batch = batch_of(["A", "C"])  # all wrong: q = 0
    sampled = sampled_of(REWARDS, batch, [RIGHT, WRONG])
    window_of(stage, sampled)
    scores = stage.score_groups(sampled)
    torch.testing.assert_close(scores.rewards, torch.tensor([[0.6, 0.2]]))
    assert scores.auxiliary_loss.item() == 0.0
    assert stage.metrics.reduced()["match/empty_pool"] == 1.0
    scores.auxiliary_loss.backward()
    assert all(p.grad is not None for p in stage.discriminator.parameters())


@pytest.mark.parametrize(("asked", "is_fine"), [(None, True), (4, True), (5, False)])
def test_a_k_that_no_pool_has_is_refused(prepare, monkeypatch, asked, is_fine):
    """Else K = 8 on four responses would be reported as an ablation over K."""
    stage = prepare(rmsd(matching=MatchingConfig(pool_size=asked)))
    stage.trainer.datamodule = SimpleNamespace(
        train_set=SimpleNamespace(pools={"a": (1, 2), "b": (1, 2, 3, 4)})
    )
    monkeypatch.setattr(OnPolicyModule, "on_train_start", lambda self: None)
    if is_fine:
        stage.on_train_start()
        return
    with pytest.raises(ValueError, match="pool_size 5: no sample .* more than 4 responses"):
        stage.on_train_start()
    stage.matching_config = MatchingConfig(pool_size=2, pool_size_if_unequal=5)
    with pytest.raises(ValueError, match="pool_size_if_unequal 5: no sample .* than 4 responses"):
        stage.on_train_start()


def test_a_discriminator_without_any_teacher_is_refused(prepare, monkeypatch):
    """It would learn nothing and pay nothing, and the run would be called R-MSD all the same."""
    monkeypatch.setattr(OnPolicyModule, "on_train_start", lambda self: None)
    for weight in (0.4, 0.0):
        stage = prepare(rmsd(reward_weight=weight))
        stage.trainer.datamodule = SimpleNamespace(train_set=SimpleNamespace(pools={}))
        if weight:
            with pytest.raises(ValueError, match="more than 0 responses .*pool_path"):
                stage.on_train_start()
        else:
            stage.on_train_start()


def test_pool_size_one_uses_the_first_response_only(batch_of, sampled_of, prepare):
    config = MatchingConfig(pool_size=1, mode="uniform", threshold=0.0)
    stage = prepare(rmsd(config, group_size=4))
    sampled = sampled_of(REWARDS, batch_of(["B", "B", "B"]), [RIGHT] * 4)
    (match,) = stage.match_teachers(sampled)
    assert [s.response.index for s in match.responses] == [0]
    assert match.chosen == (0, 0, 0, 0)


def test_more_responses_are_used_where_the_first_differ(batch_of, sampled_of, prepare, window_of):
    """And counted; an open-ended pool differs only where it is matched by something."""
    adaptive = MatchingConfig(pool_size=2, pool_size_if_unequal=4, threshold=0.0)
    stage = prepare(rmsd(adaptive))
    batch = batch_of(["B", "B", "A", "A"], ["A", "B", "B", "A", "B"], ["B"])
    sampled = sampled_of(REWARDS, batch, [RIGHT, WRONG], [RIGHT, WRONG], [RIGHT, WRONG])
    used = [[s.response.index for s in match.responses] for match in stage.match_teachers(sampled)]
    assert used == [[0, 1], [1, 2], [0]]  # wrong ones have no probability, but are paid for
    assert responses_asked(sampled, adaptive) == [2, 4, 1]
    window_of(stage, sampled)
    stage.score_groups(sampled)
    assert stage.metrics.reduced()["match/responses"] == pytest.approx(7 / 3)
    pools = ["B", "a cat", "a cat", "B b"], ["a cat", "a cat", "B", "B"]
    batch = batch_of(*pools, task="open_ended")
    sampled = sampled_of(REWARDS, batch, [RIGHT, WRONG], [RIGHT, WRONG])
    for mode, expected in (("uniform", [2, 2]), ("lexical", [4, 2]), ("agreement", [2, 2])):
        config = replace(adaptive, open_ended=mode)
        assert responses_asked(sampled, config) == expected


def test_open_ended_tasks_are_matched_by_overlap_where_asked(batch_of, sampled_of, prepare):
    """Table 5: the answer is "B", with which two of three responses share no word, but they do."""
    batch = batch_of(["B", "a cat", "a cat"], task="open_ended")
    for mode, drawable in (("uniform", [0, 1, 2]), ("lexical", [0]), ("agreement", [1, 2])):
        stage = prepare(rmsd(MatchingConfig(open_ended=mode)))
        (match,) = stage.match_teachers(sampled_of(REWARDS, batch, [RIGHT, WRONG]))
        assert [scored.response.index for scored in match.responses] == drawable


def test_a_baseline_without_filter_learns_from_wrong_responses(batch_of, sampled_of, prepare):
    """GAD's only response is wrong, and the prompt has its pair all the same."""
    config = MatchingConfig(pool_size=1, mode="uniform", threshold=0.0)
    stage = prepare(rmsd(config, pair_weight="none"))
    sampled = sampled_of(REWARDS, batch_of(["A", "B"]), [RIGHT, WRONG])
    assert stage.counts(sampled)["pairs"] == 2.0


def test_matches_differ_between_rollouts_and_steps_and_repeat(batch_of, sampled_of, prepare):
    stage = prepare(rmsd(group_size=8))
    sampled = sampled_of(REWARDS, batch_of(["B"] * 4), [RIGHT] * 8)
    (first,) = stage.match_teachers(sampled)
    assert len(set(first.chosen)) > 1
    assert stage.match_teachers(sampled)[0].chosen == first.chosen
    stage.trainer.global_step = 1
    assert stage.match_teachers(sampled)[0].chosen != first.chosen


def test_without_weight_and_kl_it_is_grpo_to_the_bit(batch_of, prepare):
    """alpha = 0 and gamma = 0 leave plain GRPO on the rule rewards."""
    config = PolicyLossConfig(group_size=2, kl_coef=0.0)
    sampling = SamplingConfig(max_completion_tokens=6)
    torch.manual_seed(0)
    ours = prepare(
        RMSDModule(
            POLICY,
            REWARDS,
            disc=DiscriminatorConfig(reward_weight=0.0),
            loss=config,
            sampling=sampling,
        )
    )
    assert ours.discriminator is None
    assert ours.ref is None
    torch.manual_seed(0)
    grpo = prepare(OnPolicyModule(POLICY, REWARDS, loss=config, sampling=sampling))
    batch = batch_of(["B"], ["A"])
    for stage in (ours, grpo):
        stage.training_step(WindowTurn(batch), 0).backward()
    for one, other in zip(ours.policy.parameters(), grpo.policy.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_policy_and_discriminator_get_no_gradient_from_each_other(
    batch_of, sampled_of, prepare, window_of, outcome_of
):
    stage = wake(prepare(rmsd()))
    sampled = sampled_of(REWARDS, batch_of(["B"]), [RIGHT, WRONG])
    window_of(stage, sampled)
    stage.score_groups(sampled).auxiliary_loss.backward()
    assert all(p.grad is None for p in stage.policy.parameters())
    assert all(p.grad is not None for p in stage.discriminator.parameters())
    stage.zero_grad()
    outcome = outcome_of(stage, sampled, torch.tensor([[1.0, -1.0]]))
    stage.policy_loss(sampled, outcome).backward()
    assert all(p.grad is not None for p in stage.policy.parameters())
    assert all(p.grad is None for p in [*stage.discriminator.parameters(), *stage.ref.parameters()])


def test_policy_gradient_raises_what_was_better_than_its_siblings(
    batch_of, sampled_of, prepare, window_of, outcome_of
):
    from lit_vdistill.models.logprobs import completion_logprobs

    stage = prepare(rmsd())
    sampled = sampled_of(REWARDS, batch_of(["B"]), [RIGHT, WRONG])

    def gap():
        with torch.no_grad():
            scores = completion_logprobs(stage.policy, sampled.batch.prompts, sampled.rows)
        return (scores.logprobs[0].sum() - scores.logprobs[1].sum()).item()

    before = gap()
    window_of(stage, sampled)
    optimizer = torch.optim.SGD(stage.policy.parameters(), lr=0.1)
    outcome = outcome_of(stage, sampled, torch.tensor([[1.0, -1.0]]))
    stage.policy_loss(sampled, outcome).backward()
    optimizer.step()
    assert gap() > before


def test_kl_starts_at_zero_and_ref_stays(batch_of, prepare, window_of, outcome_of):
    stage = prepare(rmsd())
    sampled = stage.sample(batch_of(["B"]))
    window_of(stage, sampled)
    stage.policy_loss(sampled, outcome_of(stage, sampled, torch.zeros(1, 2)))
    values = stage.metrics.reduced()
    assert values["kl/ref"] == pytest.approx(0.0, abs=1e-6)
    assert values["rollout/logprob_gap"] < 1e-4
    assert not any(p.requires_grad for p in stage.ref.parameters())


def test_warmup_holds_the_policy_and_pays_nothing(batch_of, script, prepare, take_step):
    stage = wake(prepare(rmsd(warmup_max_steps=5, warmup_accuracy=1.1)))
    script(stage, {"s0": [RIGHT, WRONG]})
    assert stage.is_warming_up
    assert stage.lr_factor("policy", 5) == 0.0
    assert stage.lr_factor("disc", 5) > 0.0
    for step in range(5):
        assert stage.is_warming_up
        stage.trainer.global_step = step
        take_step(stage, batch_of(["B"]))
        torch.testing.assert_close(stage.last_step.rewards, torch.tensor([[0.6, 0.2]]))
        assert all(not p.grad.any() for p in stage.policy.parameters())
        assert any(p.grad.any() for p in stage.discriminator.parameters())
    assert not stage.is_warming_up
    # Its clock did not run while it rested, the discriminator's did.
    assert stage.lr_factor("policy", 5) == stage.lr_factor("disc", 0)
    assert stage.lr_factor("policy", 7) == stage.lr_factor("disc", 2) > stage.lr_factor("disc", 7)
    take_step(stage, batch_of(["B"]))
    assert not torch.allclose(stage.last_step.rewards, torch.tensor([[0.6, 0.2]]))
    assert any(p.grad.any() for p in stage.policy.parameters())


def test_warmup_ends_early_on_accuracy_and_is_in_the_state(batch_of, prepare, window_of):
    stage = prepare(rmsd(warmup_max_steps=50, warmup_accuracy=0.65))
    window_of(stage, stage.sample(batch_of(["B"])))
    for piece in stage.window.pieces:
        stage.outcomes.append(stage.score(stage.window.experience.part(piece)))
    # A step in which all rollouts were truncated says nothing.
    for step, accuracy in enumerate((0.9, math.nan, 0.9, 0.9)):
        assert stage.is_warming_up
        stage.trainer.global_step = step
        stage.finish_step({"disc/accuracy": accuracy})
    assert not stage.is_warming_up
    assert stage.running_accuracy.item() == pytest.approx(0.9 - 0.4 * 0.8**3)
    state = stage.state_dict()
    assert bool(state["is_warm"])
    assert state["rested_steps"].item() == 4


def test_health_is_reported(batch_of, sampled_of, prepare, window_of):
    stage = wake(prepare(rmsd()))
    sampled = sampled_of(REWARDS, batch_of(["B", "A"], ["B"]), [RIGHT, f"{WRONG} No."], [RIGHT] * 2)
    window_of(stage, sampled)
    stage.score_groups(sampled)
    metrics = stage.metrics.reduced()
    for key in ("accuracy", "margin", "corr_length", "reward_share", "loss"):
        assert math.isfinite(metrics[f"disc/{key}"])
    assert 0.0 < metrics["disc/reward_share"] < 1.0


@pytest.mark.parametrize(("freeze_vision", "looks"), [(True, 1), (False, 4)])
def test_every_video_is_encoded_once_a_network_and_step(
    batch_of, prepare, monkeypatch, freeze_vision, looks
):
    """Once in all with a frozen tower, which policy, reference and discriminator have in common.

    One that is trained looks for the rollouts without a graph, and with one in its piece.
    """
    policy = replace(POLICY, freeze_vision=freeze_vision, verify_shared_prefix="never")
    stage = wake(prepare(rmsd(policy=policy)))
    tower = type(stage.policy.model.visual)
    calls = []
    stock = tower.forward
    monkeypatch.setattr(tower, "forward", lambda *a, **k: calls.append(1) or stock(*a, **k))
    stage.training_step(WindowTurn(batch_of(["B"], ["A"])), 0).backward()
    assert len(calls) == looks


def test_a_network_that_cannot_share_prompts_stops_the_first_step(batch_of, prepare, monkeypatch):
    stage = prepare(rmsd())
    layer = type(stage.policy.model.language_model.layers[0])
    stock = layer.forward

    def forgetful(self, *args, attention_plan=None, **kwargs):
        return stock(self, *args, **kwargs)

    batch = batch_of(["B"])
    drawn = stage.source.draw(batch, 0)
    monkeypatch.setattr(stage.source, "draw", lambda *_: drawn)
    monkeypatch.setattr(layer, "forward", forgetful)
    with pytest.raises(
        RuntimeError, match=r"sharing prompts changes.*policy\.shared_prefix 'never'"
    ):
        stage.training_step(WindowTurn(batch), 0)
    unharmed = prepare(rmsd(policy=replace(POLICY, shared_prefix="never")))
    monkeypatch.setattr(unharmed.source, "draw", lambda *_: drawn)
    unharmed.training_step(WindowTurn(batch), 0)
    # Who does not ask is told at the end of the step, before anything is learnt.
    hasty = prepare(rmsd(policy=replace(POLICY, verify_shared_prefix="never")))
    monkeypatch.setattr(hasty.source, "draw", lambda *_: drawn)
    with pytest.raises(RuntimeError, match="sampler and trainer differ"):
        hasty.training_step(WindowTurn(batch), 0)
