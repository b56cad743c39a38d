import copy

import pytest
import torch
from torch.nn.functional import rms_norm, silu
from transformers.models.qwen3_5 import modeling_qwen3_5

from lit_vdistill.models.discriminator import Discriminator
from lit_vdistill.models.families import tower_of
from lit_vdistill.models.forward import completion_states, encode_vision, rope_positions
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.prompt import PromptFeatures, split_prompt
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from tests.families import gradient_bound, stock_media, take_experts_in_turn

COMPLETIONS = [(300, 301, 302, 303), (310,), (320, 321), (330, 331, 332, 333, 334, 335)]


@pytest.fixture
def prompts(family, make_prompt):
    """Two videos of different length, three images in one prompt and a text."""
    _, processor = family
    return [
        make_prompt(processor, "a"),
        make_prompt(processor, "b", "text", "How many shapes are there?"),
        make_prompt(processor, "c", "image", frames=3),
        make_prompt(processor, "d", frames=4),
    ]


def stock_logprobs(model, prompt, completion):
    """The same number by the model's own forward, on the whole row with its pixels."""
    ids = torch.cat([prompt.input_ids, torch.tensor(completion)])[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs |= stock_media(model, prompt)
    if f"{prompt.kind}_grid_thw" in inputs:
        padding = torch.zeros(len(completion), dtype=torch.long)
        inputs["mm_token_type_ids"] = torch.cat([prompt.token_types, padding])[None]
    if prompt.second_per_grid is not None:
        inputs["second_per_grid_ts"] = torch.tensor([prompt.second_per_grid])
    logprobs = model(**inputs).logits[0].log_softmax(-1)
    start = len(prompt.input_ids)
    return logprobs[start - 1 : -1].gather(-1, ids[0, start:, None])[:, 0]


def test_logprobs_equal_the_models_own(family, prompts, true_positions):
    model, _ = family
    rows = [Row(p, ids) for p in range(4) for ids in COMPLETIONS]
    with torch.no_grad():
        scores = completion_logprobs(model, prompts, rows, chunk_size=7)
        mask = scores.mask
        assert mask.sum(dim=1).tolist() == [len(row.completion_ids) for row in rows]
        for row, ours in zip(rows, scores.logprobs, strict=True):
            stock = stock_logprobs(model, prompts[row.prompt], row.completion_ids)
            torch.testing.assert_close(ours[: len(stock)], stock, atol=1e-5, rtol=0)
            assert (ours[len(stock) :] == 0).all()
    assert (scores.entropies[mask] > 0).all()


def test_packed_and_dense_have_equal_gradients(family, prompts, monkeypatch):
    model, _ = family
    rows = [Row(p, ids) for p in (0, 2, 1, 3) for ids in COMPLETIONS]
    weights = torch.randn(len(rows), 6)

    def gradients():
        model.zero_grad()
        logprobs = completion_logprobs(model, prompts, rows).logprobs
        (logprobs * weights).sum().backward()
        return logprobs.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}

    packed, packed_gradients = gradients()
    monkeypatch.setattr(model.model, "shared_prefix", "never")
    dense, dense_gradients = gradients()
    torch.testing.assert_close(packed, dense, atol=1e-5, rtol=0)
    for name, gradient in dense_gradients.items():
        error = (packed_gradients[name] - gradient).norm() / gradient.norm().clamp(min=1e-8)
        assert error < gradient_bound(name), name


def compute_in_double(model, monkeypatch):
    """Stock norms and the delta rule compute in float32 whatever they are given."""

    def norm(self, states):
        if hasattr(self, "variance_epsilon"):
            return rms_norm(states, states.shape[-1:], self.weight, self.variance_epsilon)
        return rms_norm(states, states.shape[-1:], self.weight + 1, self.eps)  # Qwen3.5's

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            monkeypatch.setattr(type(module), "forward", norm)
        if type(module).__name__.endswith("RMSNormGated"):
            monkeypatch.setattr(
                type(module),
                "forward",
                lambda self, h, gate: rms_norm(h, h.shape[-1:], self.weight, 1e-6) * silu(gate),
            )
    monkeypatch.setattr(modeling_qwen3_5, "torch_chunk_gated_delta_rule", delta_rule)
    take_experts_in_turn(model)


def delta_rule(query, key, value, g, beta, initial_state=None, output_final_state=False, **_):
    """The gated delta rule (arXiv:2412.06464, Eq. 10), a token at a time: another arithmetic."""
    groups = value.shape[2] // key.shape[2]
    query, key = (
        (x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)).repeat_interleave(groups, dim=2)
        for x in (query, key)
    )
    state = initial_state
    if state is None:
        state = value.new_zeros(*value.shape[:1], *value.shape[2:3], key.shape[3], value.shape[3])
    read = []
    for token in range(key.shape[1]):
        state = state * g[:, token, :, None, None].exp()
        k, v = key[:, token, :, :, None], value[:, token, :, None]
        state = state + k * (v - (k * state).sum(-2, keepdim=True)) * beta[:, token, :, None, None]
        read.append((query[:, token, :, :, None] * state).sum(-2) / key.shape[3] ** 0.5)
    return torch.stack(read, dim=1), state if output_final_state else None


def test_in_double_precision_packed_and_dense_differ_by_rounding_only(family, prompts, monkeypatch):
    model = copy.deepcopy(family[0]).double()
    compute_in_double(model, monkeypatch)
    rows = [Row(p, ids) for p in (0, 2, 1, 3) for ids in COMPLETIONS]
    weights = torch.randn(len(rows), 6, 1, dtype=torch.float64)

    def gradients():
        model.zero_grad()
        states = completion_states(model.model, prompts, rows, 0)
        (states.hidden * weights)[states.mask].sum().backward()
        return {n: p.grad.clone() for n, p in model.model.named_parameters()}

    packed = gradients()
    monkeypatch.setattr(model.model, "shared_prefix", "never")
    # The decay of a stock delta net and the choice of experts are float32 all the same.
    is_mixed = any("A_log" in name or "mlp.gate." in name for name in packed)
    bound = 1e-6 if is_mixed else 1e-9
    for name, gradient in gradients().items():
        assert (packed[name] - gradient).norm() <= bound * gradient.norm(), name


def test_rows_do_not_see_each_other(family, prompts):
    model, _ = family
    with torch.no_grad():
        alone = completion_logprobs(model, prompts[:1], [Row(0, COMPLETIONS[0])]).logprobs
        rows = [Row(0, COMPLETIONS[3]), Row(0, COMPLETIONS[0]), Row(0, COMPLETIONS[2])]
        together = completion_logprobs(model, prompts[:1], rows).logprobs
    torch.testing.assert_close(together[1, :4], alone[0], atol=1e-5, rtol=0)


def test_gradient_checkpointing_changes_nothing(family, prompts):
    model, _ = family
    model = copy.deepcopy(model)
    rows = [Row(0, ids) for ids in COMPLETIONS]

    def gradient():
        model.zero_grad()
        completion_logprobs(model, prompts, rows).logprobs.sum().backward()
        return next(p for p in tower_of(model.model).parameters() if p.dim() > 3).grad.clone()

    plain = gradient()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(gradient(), plain, atol=1e-5, rtol=1e-4)


def test_text_only_batches_touch_the_vision_tower(family, prompts):
    model, _ = family
    model.zero_grad(set_to_none=True)
    logprobs = completion_logprobs(model, [prompts[1]], [Row(0, COMPLETIONS[0])]).logprobs
    with torch.no_grad():
        stock = stock_logprobs(model, prompts[1], COMPLETIONS[0])
    torch.testing.assert_close(logprobs[0].detach(), stock, atol=1e-5, rtol=0)
    logprobs.sum().backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None]
    assert untouched == []


@pytest.fixture
def tower_calls(family, monkeypatch):
    """Calls of the tower; the model may be a copy."""
    tower = tower_of(family[0].model)
    tower = type(tower[0] if isinstance(tower, torch.nn.ModuleList) else tower)
    calls, stock = [], tower.forward

    def forward(self, *args, **kwargs):
        calls.append(self)
        return stock(self, *args, **kwargs)

    monkeypatch.setattr(tower, "forward", forward)
    return calls


@pytest.mark.parametrize("chosen", [(1,), (0, 1, 2, 3), (0, 3), (2, 1)], ids=str)
def test_a_trained_tower_is_called_once_whatever_there_is_to_see(
    family, prompts, tower_calls, chosen
):
    """And not again for prompts that it has looked at, whose anchor serves."""
    model, _ = family
    model.zero_grad(set_to_none=True)
    looked = encode_vision(model.model, [prompts[i] for i in chosen])
    assert len(tower_calls) == 1
    assert all(prompt.features is not None for prompt in looked)
    assert encode_vision(model.model, looked) == looked
    rows = [Row(i, ids) for i in range(len(chosen)) for ids in COMPLETIONS]
    completion_logprobs(model, looked, rows).logprobs.sum().backward()
    assert len(tower_calls) == 1
    assert all(p.grad is not None for p in tower_of(model.model).parameters())


def test_a_tower_that_nobody_waits_for_is_not_called_for_text(family, prompts, tower_calls):
    model, _ = family
    frozen = copy.deepcopy(model)
    tower_of(frozen.model).requires_grad_(False)
    completion_logprobs(frozen, [prompts[1]], [Row(0, (305, 306))])
    with torch.no_grad():
        looked = encode_vision(model.model, [prompts[1]])
    assert tower_calls == []
    assert looked[0].features == PromptFeatures((), ())


def test_a_sharded_tower_is_called_for_text_too(family, prompts, tower_calls):
    """Without a gradient, as in rollouts: all processes gather its weights together."""
    model, processor = family
    model = copy.deepcopy(model).requires_grad_(False)
    next(tower_of(model.model).parameters()).ds_id = 0
    with torch.no_grad():
        looked = encode_vision(model.model, [prompts[1]])
        assert len(tower_calls) == 1
        completion_logprobs(model, looked, [Row(0, (305, 306))])
        HFRolloutEngine(model, processor)._prefill(looked)
    assert len(tower_calls) == 1
    encode_vision(model.model, prompts)
    assert len(tower_calls) == 2


def test_images_and_videos_go_through_the_tower_together(family, prompts):
    """With the same numbers: windows and deeper layers' features keep apart what is apart."""
    model, _ = family
    with torch.no_grad():
        together = encode_vision(model.model, prompts)
        alone = [encode_vision(model.model, [prompt])[0] for prompt in prompts]
    for mine, other in zip(together, alone, strict=True):
        media = () if mine.grid_thw is None else mine.grid_thw
        assert len(mine.features.pooled) == len(media)
        for ours, theirs in zip(
            [*mine.features.pooled, *sum(mine.features.deepstack, ())],
            [*other.features.pooled, *sum(other.features.deepstack, ())],
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_prompts_that_were_looked_at_need_no_pixels(family, prompts):
    model, _ = family
    rows = [Row(p, ids) for p in range(4) for ids in COMPLETIONS[:2]]
    with torch.no_grad():
        expected = completion_logprobs(model, prompts, rows).logprobs
        bare = [prompt.without_pixels() for prompt in encode_vision(model.model, prompts)]
        assert all(prompt.pixels is None for prompt in bare)
        assert torch.equal(completion_logprobs(model, bare, rows).logprobs, expected)


def test_positions_are_found_with_the_features_and_outlive_a_cut(family, prompts, monkeypatch):
    """A prompt that is cut behind its media keeps the positions of what is left."""
    model, processor = family
    whole = [rope_positions(model.model, prompt) for prompt in prompts]
    cut = [split_prompt(prompt, processor.tokenizer.eos_token_id)[0] for prompt in prompts]
    left = [rope_positions(model.model, prompt) for prompt in cut]
    with torch.no_grad():
        seen = encode_vision(model.model, prompts)
    monkeypatch.setattr("lit_vdistill.models.families.qwen_vl.mrope_positions", None)
    short = [split_prompt(prompt, processor.tokenizer.eos_token_id)[0] for prompt in seen]
    for prompt, part, (positions, end), (head, stop) in zip(seen, short, whole, left, strict=True):
        assert torch.equal(rope_positions(model.model, prompt)[0], positions)
        assert torch.equal(rope_positions(model.model, part)[0], head)
        assert rope_positions(model.model, prompt)[1] == end
        assert rope_positions(model.model, part)[1] == stop


def test_a_frozen_tower_is_left_alone(family, prompts):
    model, _ = family
    model = copy.deepcopy(model)
    tower_of(model.model).requires_grad_(False)
    completion_logprobs(model, prompts, [Row(0, (305, 306))]).logprobs.sum().backward()
    assert all(p.grad is None for p in tower_of(model.model).parameters())


def test_discriminator_scores_equal_rows_equal_to_the_bit(family, prompts):
    model, _ = family
    discriminator = Discriminator(copy.deepcopy(model), "last_token")
    with torch.no_grad():
        discriminator.head.weight.normal_()
        rows = [Row(p, ids) for p in (0, 3) for ids in COMPLETIONS]
        scores = discriminator(prompts, [*rows, *rows[::-1]])
    assert torch.equal(scores[: len(rows)], scores[len(rows) :].flip(0))
    assert len(set(scores.tolist())) == len(rows)


def test_discriminator_scores_the_same_behind_a_shared_prompt(family, prompts, monkeypatch):
    model, _ = family
    discriminator = Discriminator(copy.deepcopy(model), "last_token")
    rows = [Row(p, ids) for p in (0, 2, 1, 3) for ids in COMPLETIONS]
    with torch.no_grad():
        discriminator.head.weight.normal_()
        shared = discriminator(prompts, rows)
        monkeypatch.setattr(discriminator.backbone, "shared_prefix", "never")
        dense = discriminator(prompts, rows)
    torch.testing.assert_close(shared, dense, atol=1e-4, rtol=1e-5)


def test_discriminator_looks_at_the_last_token_and_at_the_video(family, prompts):
    model, _ = family
    discriminator = Discriminator(copy.deepcopy(model), "last_token")
    with torch.no_grad():
        discriminator.head.weight.normal_()
        last, other_last = discriminator(prompts, [Row(0, (305, 306)), Row(0, (305, 307))])
        here, there = discriminator(prompts, [Row(0, (305, 306)), Row(3, (305, 306))])
    assert last != other_last
    assert here != there
