"""Sampling with the training network itself, through transformers and its cache.

The vision tower and the prompt run once a prompt; the cache then fans out to the completions.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, ProcessorMixin

from lit_vdistill.models.forward import encode_vision, rope_positions, vision_inputs
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.vlm import is_zero3_sharded
from lit_vdistill.rollouts.engine import SamplingConfig, rollout_uniforms
from lit_vdistill.types import Rollout

_NEVER_SAMPLED = (
    "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
)  # fmt: skip
_COMPACT_BELOW = 0.75
"""Finished rows leave the batch once the running share has fallen to this; copying a cache costs
about as much as one decoding step."""


@dataclass(slots=True)
class _Running:
    """What has been sampled so far, all rows, finished or not."""

    ids: list[list[int]]
    logprobs: list[list[float]]
    is_finished: list[bool] = field(default_factory=list)


class HFRolloutEngine:
    """Samples from a transformers model in this process; satisfies `RolloutEngine`."""

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, max_rows: int = 128
    ) -> None:
        """Keep the policy itself, so that rollouts always come from its current weights.

        Args:
            model: The policy.
            processor: Its processor.
            max_rows: Completions decoded together; bounds the cache's memory.
        """
        self.model = model
        self.tokenizer = processor.tokenizer
        self.max_rows = max_rows
        known = self.tokenizer.get_vocab()
        self.banned = torch.tensor([known[name] for name in _NEVER_SAMPLED if name in known])

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: SamplingConfig,
        *,
        seed: int,
    ) -> list[tuple[Rollout, ...]]:
        """Sample `num_rollouts` completions of every prompt; see `RolloutEngine.generate`."""
        chunk = max(1, self.max_rows // num_rollouts)
        groups: list[tuple[Rollout, ...]] = []
        with _inference(self.model):
            for first in range(0, len(prompts), chunk):
                part = prompts[first : first + chunk]
                groups += self._generate_part(part, num_rollouts, sampling, seed)
        return groups

    def _generate_part(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: SamplingConfig,
        seed: int,
    ) -> list[tuple[Rollout, ...]]:
        limit = sampling.max_completion_tokens
        uniforms = torch.cat(
            [rollout_uniforms(seed, p.sample_id, num_rollouts, limit) for p in prompts]
        )
        rows = len(prompts) * num_rollouts
        running = _Running([[] for _ in range(rows)], [[] for _ in range(rows)], [False] * rows)
        logits, cache, attention, positions = self._prefill(prompts)
        device = logits.device
        cache.batch_repeat_interleave(num_rollouts)
        logits = logits.repeat_interleave(num_rollouts, dim=0)
        attention = attention.repeat_interleave(num_rollouts, dim=0)
        positions = positions.repeat_interleave(num_rollouts)
        alive = torch.arange(rows)
        for step in range(limit):
            chosen, logprobs = self._sample(logits, uniforms[alive, step].to(device), sampling)
            self._record(running, alive.tolist(), chosen.tolist(), logprobs.tolist())
            keep = [i for i, row in enumerate(alive.tolist()) if not running.is_finished[row]]
            if self._is_over(not keep) or step + 1 == limit:
                break
            if 0 < len(keep) <= _COMPACT_BELOW * len(alive):
                index = torch.tensor(keep)
                alive, on_device = alive[index], index.to(device)
                cache.batch_select_indices(on_device)
                chosen, attention = chosen[on_device], attention[on_device]
                positions = positions[on_device]
            attention = torch.cat([attention, attention.new_ones(len(alive), 1)], dim=1)
            logits = self._decode(chosen, positions + step, attention, cache)
        return self._collect(prompts, num_rollouts, running, sampling)

    def _prefill(
        self, prompts: Sequence[EncodedPrompt]
    ) -> tuple[Tensor, DynamicCache, Tensor, Tensor]:
        """Last logits, cache, attention mask and next position of every prompt, left-padded."""
        backbone = self.model.model
        length = max(len(prompt.input_ids) for prompt in prompts)
        device = prompts[0].input_ids.device
        ids = torch.zeros(len(prompts), length, dtype=torch.long, device=device)
        attention = torch.zeros_like(ids)
        positions = torch.zeros(3, len(prompts), length, dtype=torch.long, device=device)
        following = []
        for i, prompt in enumerate(prompts):
            own, next_position = rope_positions(backbone, prompt)
            ids[i, -len(prompt.input_ids) :] = prompt.input_ids
            attention[i, -len(prompt.input_ids) :] = 1
            positions[:, i, -len(prompt.input_ids) :] = own
            following.append(next_position)
        cache = DynamicCache(config=self.model.config.get_text_config())
        output = backbone(
            input_ids=ids,
            attention_mask=attention,
            position_ids=positions,
            mm_encoder_outputs=vision_inputs(encode_vision(backbone, prompts), range(len(prompts))),
            past_key_values=cache,
            use_cache=True,
        )
        logits = self.model.lm_head(output.last_hidden_state[:, -1])
        return logits, cache, attention, torch.tensor(following, device=device)

    def _decode(
        self, ids: Tensor, positions: Tensor, attention: Tensor, cache: DynamicCache
    ) -> Tensor:
        output = self.model.model(
            input_ids=ids[:, None],
            attention_mask=attention,
            position_ids=positions.expand(3, -1)[..., None],
            past_key_values=cache,
            use_cache=True,
        )
        return self.model.lm_head(output.last_hidden_state[:, -1])

    def _is_over(self, is_done: bool) -> bool:
        """Whether decoding ends, here or, with sharded weights, everywhere.

        All processes gather sharded weights together: one that has finished goes on in step.
        """
        if not is_zero3_sharded(self.model):
            return is_done
        done = torch.tensor(int(is_done), device=self.model.device)
        torch.distributed.all_reduce(done, torch.distributed.ReduceOp.MIN)
        return bool(done)

    def _sample(
        self, logits: Tensor, uniforms: Tensor, sampling: SamplingConfig
    ) -> tuple[Tensor, Tensor]:
        """Next ids, and their log-probabilities under the whole vocabulary at temperature 1."""
        logits = logits.float()
        allowed = logits.index_fill(-1, self.banned.to(logits.device), -torch.inf)
        if sampling.temperature == 0:
            chosen = allowed.argmax(dim=-1)
        else:
            chosen = _inverse_cdf(allowed / sampling.temperature, uniforms, sampling.top_p)
        return chosen, logits.log_softmax(dim=-1).gather(-1, chosen[:, None])[:, 0]

    def _record(
        self, running: _Running, rows: list[int], ids: list[int], logprobs: list[float]
    ) -> None:
        for row, token, logprob in zip(rows, ids, logprobs, strict=True):
            if not running.is_finished[row]:
                running.ids[row].append(token)
                running.logprobs[row].append(logprob)
                running.is_finished[row] = token == self.tokenizer.eos_token_id

    def _collect(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        running: _Running,
        sampling: SamplingConfig,
    ) -> list[tuple[Rollout, ...]]:
        groups = []
        for i, prompt in enumerate(prompts):
            group = []
            for index in range(num_rollouts):
                row = i * num_rollouts + index
                ids, is_finished = running.ids[row], running.is_finished[row]
                group.append(
                    Rollout(
                        sample_id=prompt.sample_id,
                        index=index,
                        completion_ids=tuple(ids),
                        rollout_logprobs=tuple(running.logprobs[row]),
                        text=self.tokenizer.decode(ids[:-1] if is_finished else ids),
                        is_truncated=not is_finished,
                        temperature=sampling.temperature,
                    )
                )
            groups.append(tuple(group))
        return groups


def _inverse_cdf(logits: Tensor, uniforms: Tensor, top_p: float) -> Tensor:
    """Sample by inverting the cumulative distribution, most probable token first.

    One uniform number decides a token, so a row draws the same whatever stands beside it.
    """
    probabilities, order = (
        logits.double().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    )
    reached = probabilities.cumsum(dim=-1)
    if top_p < 1:
        probabilities = probabilities.masked_fill(reached - probabilities >= top_p, 0.0)
        reached = probabilities.cumsum(dim=-1)
    points = uniforms[:, None] * reached[:, -1:]
    place = (reached <= points).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, place)[:, 0]


@contextmanager
def _inference(model: PreTrainedModel) -> Iterator[None]:
    """No gradients, no dropout, no gradient checkpointing; the mode is restored afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
