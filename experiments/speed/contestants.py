"""The same work done twice: as this project does it, and the plain way, by stock transformers.

The plain way is what other trainers of video-language models do: a row a completion, each with its
own copy of prompt and pixels, through policy, reference and discriminator, and `generate` with
`num_return_sequences`.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from transformers import PreTrainedModel

from experiments.speed import steps
from experiments.speed.networks import QUESTIONS, Arena, encode_video
from lit_vdistill.models.forward import SharedPrefix
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.types import Rollout

Run = Callable[[], object]


def training(arena: Arena) -> Mapping[str, Run]:
    """Forward and backward of a policy-gradient loss over all completions."""
    weights = torch.linspace(-1, 1, arena.num_rollouts)[:, None]
    rows = [Row(0, tuple(ids)) for ids in arena.completions.tolist()]

    def ours(mode: SharedPrefix) -> None:
        arena.ours.zero_grad()
        arena.ours.model.shared_prefix = mode
        scores = completion_logprobs(arena.ours, [arena.prompt], rows)
        (scores.logprobs * weights).sum().backward()
        arena.ours.model.shared_prefix = "auto"

    def stock() -> None:
        arena.stock.zero_grad()
        (_stock_logprobs(arena.stock, arena, arena.completions) * weights).sum().backward()

    return {
        "shared": lambda: ours("auto"),
        "dense": stock,
        "dense, video once": lambda: ours("never"),
    }


def rollout(arena: Arena) -> Mapping[str, Run]:
    """Sampling all completions to their full length."""
    engine = _endless_engine(arena)
    sampling = SamplingConfig(max_completion_tokens=arena.num_tokens)
    return {
        "shared": lambda: engine.generate([arena.prompt], arena.num_rollouts, sampling, seed=0),
        "stock": lambda: _stock_generate(arena),
    }


def questions(arena: Arena) -> Mapping[str, Run]:
    """Sampling for all of `QUESTIONS` about one video.

    *nested*: they share its tokens. *apart*: one call, a tower and a whole prompt each, as of
    videos that are not known to be one. *one by one*: a call a question.
    """
    engine = _endless_engine(arena)
    sampling = SamplingConfig(max_completion_tokens=arena.num_tokens)
    asked = [
        encode_video(arena.processor, arena.frames, f"speed{number}", question)
        for number, question in enumerate(QUESTIONS)
    ]
    strangers = [replace(prompt, medium=None) for prompt in asked]

    def generate(prompts: list[EncodedPrompt]) -> list[tuple[Rollout, ...]]:
        return engine.generate(prompts, arena.num_rollouts, sampling, seed=0)

    return {
        "nested": lambda: generate(asked),
        "apart": lambda: generate(strangers),
        "one by one": lambda: [generate([prompt])[0] for prompt in strangers],
    }


def _endless_engine(arena: Arena) -> HFRolloutEngine:
    """One that never samples an end of sequence."""
    engine = HFRolloutEngine(arena.ours, arena.processor)
    engine.banned = torch.cat([engine.banned, torch.tensor([engine.tokenizer.eos_token_id])])
    return engine


def rmsd_step(arena: Arena) -> Mapping[str, Run]:
    """A whole R-MSD step: rollouts, reference, policy, discriminator on both sides, AdamW."""
    policy, ref, critic = arena.stock, deepcopy(arena.stock), deepcopy(arena.stock.model)
    head = nn.Linear(policy.config.get_text_config().hidden_size, 1, bias=False)
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters(), *head.parameters()])
    weights = torch.linspace(-1, 1, arena.num_rollouts)[:, None]
    teachers = arena.completions[: steps.TEACHERS]

    def dense_step() -> None:
        sampled = _stock_generate(arena)
        with torch.no_grad():
            ref_logprobs = _stock_logprobs(ref, arena, sampled)
        rows = torch.cat([sampled, teachers])
        scores = head(critic(**_stock_inputs(arena, rows)).last_hidden_state[:, -1])[:, 0]
        logprobs = _stock_logprobs(policy, arena, sampled)
        gap = ref_logprobs - logprobs
        loss = (1e-3 * (gap.exp() - gap - 1) - logprobs * weights).mean()
        (loss + softplus(scores[: len(sampled)].mean() - scores[len(sampled) :].mean())).backward()
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return {"shared": steps.rmsd(arena), "dense": dense_step}


def grpo_fit(arena: Arena, num_steps: int) -> dict[str, Callable[[], list[float]]]:
    """GRPO without KL, ours and TRL's, each by its own trainer; gives the seconds of its steps."""
    from experiments.speed.trl_contestant import trl_fit

    return {"shared": steps.grpo(arena).of(num_steps), "TRL": trl_fit(arena, num_steps)}


def _stock_inputs(arena: Arena, completions: Tensor) -> dict[str, Tensor]:
    """A row a completion, each with the whole prompt and all of its pixels."""
    prompt, count = arena.prompt, len(completions)
    assert prompt.grid_thw is not None
    ids = torch.cat([prompt.input_ids.expand(count, -1), completions], dim=1)
    types = torch.cat([prompt.token_types.expand(count, -1), torch.zeros_like(completions)], dim=1)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": types,
        "pixel_values_videos": prompt.tower_input().repeat(count, 1),
        "video_grid_thw": prompt.grid_thw.repeat(count, 1),
    }


def _stock_logprobs(model: PreTrainedModel, arena: Arena, completions: Tensor) -> Tensor:
    """Log-probabilities of completions by a stock network; logits of the completion only."""
    length = completions.shape[1]
    logits = model(**_stock_inputs(arena, completions), logits_to_keep=length + 1).logits
    return logits[:, :-1].float().log_softmax(-1).gather(-1, completions[..., None])[..., 0]


def _stock_generate(arena: Arena) -> Tensor:
    """Full-length samples by transformers' `generate`, `[rows, tokens]`."""
    prompt = _stock_inputs(arena, arena.completions[:1, :0])
    model = arena.stock.eval()
    ids = model.generate(
        **prompt, do_sample=True, top_k=0, num_return_sequences=arena.num_rollouts,
        max_new_tokens=arena.num_tokens, eos_token_id=None,
        suppress_tokens=[model.config.image_token_id, model.config.video_token_id],
    )  # fmt: skip
    model.train()
    return ids[:, len(arena.prompt.input_ids) :]
