"""Each recipe's step on stored rollouts gives the numbers that it gave.

`pytest tests/golden --renew` writes them anew; CONTRIBUTING.md says when one may.
"""

import json
import math
from pathlib import Path

import pytest
import torch

from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.policy import COUNTED
from lit_vdistill.stages import on_policy, sft
from lit_vdistill.stages.on_policy import OnPolicyModule, PolicyLossConfig
from tests.golden.conftest import HERE, draw

POLICY = ["--model.policy.path=tiny/qwen3-vl"]
ONLINE = [*POLICY, "--model.loss.group_size=4"]
OVERRIDES = {
    "sft": POLICY,
    "sft_gad": POLICY,
    "sft_longer": POLICY,
    "sft_perception": POLICY,
    "sft_privileged": POLICY,
    "dapo": [
        *ONLINE,
        "--model.loss.resample_no_signal=0",
    ],  # a stored window has no stream behind it
    "opd": [*ONLINE, "--model.teacher.path=tiny/qwen3-vl/4m"],
}
"""Nothing but paths, and how many rollouts are stored: what a loss depends on is the recipe's."""
RECIPES = [path.stem for path in sorted(Path("configs").glob("*.yaml"))]
CASES = {recipe: (recipe, OVERRIDES.get(recipe, ONLINE)) for recipe in RECIPES}
CASES["rmsd_twice"] = ("rmsd", [*ONLINE, "--model.loss.updates_per_rollout=2"])
"""No recipe takes several updates of a window; only in the second one clipping acts."""
PIECES = {"visd_shuffled": (1,)}
"""A control that deals feedback out among the rollouts of a piece; all others are the same however
a step is cut."""
FLOOR = 2e-7
"""Absolute: what sums of zero come to in float32."""
STEP_LENGTH = 0.3
"""Of the policy's weights between two updates: some ratios leave 1 ± 0.2, some do not."""


class Recorder:
    """Adds up what the loop's losses are made of, before it is averaged away."""

    def __init__(self, monkeypatch):
        self.sums = {}
        self._seen = {}
        self._divisor = math.nan
        for module, name, wrapper in (
            (on_policy, "policy_surrogate", self._surrogate),
            (on_policy, "kl_estimate", self._kl),
            (on_policy, "masked_total", self._policy_total),
            (sft, "masked_total", self._sft_total),
        ):
            monkeypatch.setattr(module, name, wrapper(getattr(module, name)))
        self._monkeypatch = monkeypatch

    def watch(self, stage):
        """Of a reinforcement stage, also what its method says."""
        self.stage = stage
        if not isinstance(stage, OnPolicyModule):
            return
        start = stage.start_method

        def watched(*args):
            method = start(*args)
            terms = method.terms

            def keep(scores, metrics):
                found = terms(scores, metrics)
                if found.losses is not None:
                    self._seen["method"] = found.losses
                return found

            method.terms = keep
            return method

        self._monkeypatch.setattr(stage, "start_method", watched)

    def add(self, name, value):
        self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())

    def _surrogate(self, stock):
        def surrogate(logprobs, old, advantages, mask, **kind):
            found, is_clipped = stock(logprobs, old, advantages, mask, **kind)
            self._seen |= {"surrogate": found, "advantages": advantages, "logprobs": logprobs}
            return found, is_clipped

        return surrogate

    def _kl(self, stock):
        def kl(*args):
            self._seen["kl"] = stock(*args)
            return self._seen["kl"]

        return kl

    def _policy_total(self, stock):
        def total(values, mask, reduction, weights):
            found = stock(values, mask, reduction, weights)
            if values is self._seen.get("kl"):  # for the log; its part in the loss follows
                return found
            seen, self._seen = self._seen, {}
            counted = torch.ones(len(mask)) if weights is None else weights
            divisor = self.stage.window.counts[COUNTED[reduction]]
            self.add("logprobs/sum", (seen["logprobs"] * mask * counted[:, None]).sum())
            self.add("loss/policy", found / divisor)
            for name, factor in (
                ("surrogate", 1.0), ("kl", self.stage.loss_config.kl_coef), ("method", 1.0),
            ):  # fmt: skip
                if name in seen:
                    part = factor * seen[name]
                    self.add(f"loss/{name}", stock(part, mask, reduction, weights) / divisor)
            for name, part in (seen | {"policy": values}).items():
                if name != "logprobs":
                    self.add(f"abs_sum/{name}", (part.abs() * mask * counted[:, None]).sum())
            return found

        return total

    def _sft_total(self, stock):
        def total(values, mask, reduction):
            self.add("logprobs/sum", (values * mask).sum())
            self.add("abs_sum/policy", (values * mask).abs().sum())
            return stock(values, mask, reduction)

        return total


def measure(recorder, stage, window, num_pieces):
    """The numbers of all updates of a window, in pieces."""
    updates = []
    stage.trainer.accumulate_grad_batches = num_pieces
    for update in range(stage.updates_per_window):
        recorder.sums = {}
        stage.zero_grad()
        for piece in range(num_pieces):
            turn = WindowTurn(window, update=update, piece=piece, num_pieces=num_pieces)
            share = stage.training_step(turn, piece) / num_pieces  # Lightning divides, too
            share.backward()
            recorder.add("loss/total", share)
        updates.append(recorder.sums | described(stage))
        step_along_gradient(stage.policy)
    return updates


def described(stage):
    """Gradients by network, and what a reinforcement stage made of the rollouts."""
    found = {}
    for role, network in stage.named_children():
        named = [(n, p.grad.double()) for n, p in network.named_parameters() if p.grad is not None]
        if named:
            total = sum(grad.square().sum().item() for _, grad in named)
            found[f"gradient_norm/{role}"] = total**0.5
            # A loss of the wrong sign has the same norm.
            along = [(draw("direction", n, shape=g.shape) * g).sum().item() for n, g in named]
            found[f"gradient_along/{role}"] = sum(along)
    if isinstance(stage, OnPolicyModule):
        found["rewards"] = stage.last_step.rewards.tolist()
        found["advantages"] = stage.last_step.advantages.tolist()
        auxiliary = [outcome.scores.auxiliary_loss for outcome in stage.outcomes]
        if stage.update == 0 and None not in auxiliary:
            found["loss/auxiliary"] = sum(loss.item() for loss in auxiliary)
    return found


@torch.no_grad()
def step_along_gradient(policy):
    gradients = [(p, p.grad) for p in policy.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([grad for _, grad in gradients])
    for parameter, grad in gradients:
        parameter -= STEP_LENGTH * grad / norm


def prompt_sum(window):
    """Changes where a prompt has other tokens or other pixels."""
    return sum(
        float((prompt.input_ids * torch.arange(1, len(prompt.input_ids) + 1)).sum())
        + (0.0 if prompt.pixels is None else prompt.tower_input().double().abs().sum().item())
        for prompt in window.prompts
    )


def rounded(value):
    """Seven digits; what is nothing but rounding is 0, lest every renewal differ."""
    if isinstance(value, dict):
        return {name: rounded(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return 0.0 if abs(value) < FLOOR else float(f"{value:.7g}")


def check(found, expected, why, rel=1e-4):
    __tracebackhide__ = True
    assert found.keys() == expected.keys(), why
    for name, value in found.items():
        pairs = zip(value, expected[name], strict=True) if isinstance(value, list) else ()
        same = [x == pytest.approx(y, rel=rel, abs=FLOOR) for x, y in pairs] or [
            value == pytest.approx(expected[name], rel=rel, abs=FLOOR)
        ]
        assert all(same), f"{name} is {rounded(value)}, it was {expected[name]}: {why}"


def test_the_stored_rollouts_are_the_networks_own(
    networks_of, prepare, window, rollouts, renew, keep_logprobs
):
    """Text is what the ids say, and log-probabilities are the policy's, to six digits."""
    loss = PolicyLossConfig(group_size=4, kl_coef=0.0)
    stage = prepare(OnPolicyModule(VLMConfig("tiny/qwen3-vl"), [], loss=loss))
    networks_of(stage)
    found = {}
    for item in window.items:
        group = rollouts[item.sample.id]
        rows = [Row(0, rollout.completion_ids) for rollout in group]
        with torch.no_grad():
            scores = completion_logprobs(stage.policy, [item.prompt], rows)
        lengths = [len(row.completion_ids) for row in rows]
        found[item.sample.id] = [
            [round(x, 6) for x in row[:length].tolist()]
            for row, length in zip(scores.logprobs, lengths, strict=True)
        ]
        for rollout in group:
            end = () if rollout.is_truncated else (stage.processor.tokenizer.eos_token_id,)
            ids = rollout.completion_ids[: len(rollout.completion_ids) - len(end)]
            assert (*ids, *end) == rollout.completion_ids
            assert stage.processor.tokenizer.decode(ids) == rollout.text, "another tokenizer"
    if renew:
        keep_logprobs(found)
        return
    for name, group in rollouts.items():
        for values, rollout in zip(found[name], group, strict=True):
            assert values == pytest.approx(rollout.rollout_logprobs, abs=1e-4), (
                f"{name}: other weights, another prompt or another forward pass; losses come later"
            )


@pytest.mark.parametrize("case", CASES)
def test_a_step_gives_the_numbers_that_it_gave(
    case, stage_of, networks_of, window, with_views, rollouts, monkeypatch, renew
):
    config, overrides = CASES[case]
    recorder = Recorder(monkeypatch)
    stage = stage_of(config, *overrides)
    if stage.teacher_view is not None:
        window = with_views(window)
    recorder.watch(stage)
    path = HERE / f"{case}.json"
    inputs = {"prompts": prompt_sum(window)}
    if isinstance(stage, OnPolicyModule):
        drawn = [rollouts[item.sample.id] for item in window.items]
        monkeypatch.setattr(stage.engine, "generate", lambda *args, **kwargs: drawn)
    if hasattr(stage, "is_warm"):
        stage.is_warm.fill_(True)  # in the warm-up the policy rests, and shows nothing
    for num_pieces in PIECES.get(case, (1, 3)):
        inputs |= networks_of(stage)
        if not renew:
            expected = json.loads(path.read_text())
            why = "the network is another (weights by parameter name, prompts), not the loss"
            check(inputs, expected["inputs"], why, rel=1e-6)
        updates = measure(recorder, stage, window, num_pieces)
        for number, found in enumerate(updates):
            parts = [found.get(f"loss/{name}", 0.0) for name in ("surrogate", "kl", "method")]
            if isinstance(stage, OnPolicyModule):
                assert found["loss/policy"] == pytest.approx(sum(parts), rel=1e-5, abs=1e-6)
                whole = found["loss/policy"] + found.get("loss/auxiliary", 0.0)
                assert found["loss/total"] == pytest.approx(whole, rel=1e-5, abs=1e-6)
            if renew:
                continue
            where = f"update {number + 1}, in {num_pieces} piece(s)"
            known = expected["updates"][number]
            name = "logprobs/sum"
            why = f"{where}: the same network reads the rollouts otherwise, or others are trained"
            check({name: found[name]}, {name: known[name]}, why)
            check(found, known, f"{where}: the loss is another")
        if renew and num_pieces == 1:
            text = json.dumps({"inputs": rounded(inputs), "updates": rounded(updates)}, indent=1)
            path.write_text(text + "\n")


def test_every_golden_file_is_a_case():
    """Others would stay behind, compared with nothing."""
    stored = {path.stem for path in HERE.glob("*.json")}
    assert stored - {"stored_rollouts"} == set(CASES)
