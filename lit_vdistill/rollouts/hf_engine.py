"""Sampling with the training network itself, in its process and with its present weights.

The vision tower runs once a medium. What prompts about it have in common runs once, the words of
each behind it, and all rollouts decode behind that one copy (`rollouts/shared_cache.py`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from lit_vdistill.models import meter
from lit_vdistill.models.families import family_of
from lit_vdistill.models.forward import encode_vision, pad_token_id, place_prompts
from lit_vdistill.models.layout import Row, packed_layout
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.sharding import (
    even_turns,
    gathered,
    is_sharded,
    largest_anywhere,
    room_for_whole,
)
from lit_vdistill.models.shared_media import share_media
from lit_vdistill.models.shared_prefix import AttentionPlan, kernel_of
from lit_vdistill.objectives.precision import widened
from lit_vdistill.rollouts.decoder import TokenDecoder, is_decodable
from lit_vdistill.rollouts.engine import SamplingConfig, rollout_turns, rollout_uniforms
from lit_vdistill.rollouts.shared_cache import PromptCache, RolloutCache
from lit_vdistill.types import Rollout

logger = logging.getLogger(__name__)
_COMPACT_BELOW = 0.75
"""Finished rows leave the batch once the running share has fallen to this; leaving copies what the
others have sampled."""
Decode = Callable[[Tensor, Tensor, RolloutCache], Tensor]
"""Ids, positions and cache of the rows to their hidden states `[rows, hidden]`."""


class _Sampled:
    """What has been sampled so far by all rows of a turn, finished or not; on their device."""

    def __init__(self, rows: int, limit: int, device: torch.device) -> None:
        self.ids = torch.zeros(rows, limit, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(rows, limit, dtype=torch.float64, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.alive = torch.arange(rows, device=device)
        """Rows that are still in the batch."""
        self.is_running = torch.ones(rows, dtype=torch.bool, device=device)
        """Which of them have not finished."""

    def add(self, step: int, ids: Tensor, logprobs: Tensor, eos_id: int) -> int:
        """Record the next token of each row in the batch; how many have not finished now."""
        self.ids[self.alive, step] = ids
        self.logprobs[self.alive, step] = logprobs.double()
        self.lengths[self.alive] += self.is_running
        self.is_running = self.is_running & (ids != eos_id)
        return int(self.is_running.sum())

    def drop_finished(self) -> Int[Tensor, " left"]:
        """Which places of the batch are kept."""
        kept = self.is_running.nonzero()[:, 0]
        self.alive, self.is_running = self.alive[kept], self.is_running[kept]
        return kept


class HFRolloutEngine:
    """Samples from a transformers model in this process; satisfies `RolloutEngine`."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin) -> None:
        """Keep the policy itself, so that rollouts always come from its current weights.

        Args:
            model: The policy.
            processor: Its processor.

        Raises:
            ValueError: For a model whose attention takes no plan; see `enable_plans`.
        """
        kernel_of(model)
        self.model = model
        self.tokenizer = processor.tokenizer
        self.eos_id: int = self.tokenizer.eos_token_id
        self._has_gathered: bool | None = None
        known = self.tokenizer.get_vocab()
        never = family_of(model.config).never_sampled
        self.banned = torch.tensor([known[name] for name in never if name in known])

    def is_apart(self) -> bool:
        """See `RolloutEngine.is_apart`."""
        return False

    def synchronise(self) -> None:
        """Its weights are the policy's."""

    def likely_cause(self, prompts: Sequence[EncodedPrompt]) -> str:
        """See `RolloutEngine.likely_cause`."""
        return "check that both run the same precision and attention kernel"

    def generate(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: SamplingConfig,
        *,
        seed: int,
    ) -> list[tuple[Rollout, ...]]:
        """Sample `num_rollouts` completions of every prompt; see `RolloutEngine.generate`.

        Prompts may lie on the host; what a turn runs is moved, and freed before the next.

        Raises:
            ValueError: For a prompt whose group alone is beyond `sampling.max_tokens`.
        """
        turns = rollout_turns(prompts, num_rollouts, sampling)
        groups: list[tuple[Rollout, ...]] = [()] * len(prompts)
        in_step = is_sharded(self.model) and not self._is_whole_in_memory()
        if in_step:
            turns = even_turns(turns, self.model.device)
        with nullcontext() if in_step else gathered(self.model), _inference(self.model):
            for turn in turns:
                part = [prompts[i] for i in turn]
                found = self._generate_turn(part, num_rollouts, sampling, seed, in_step)
                for i, group in zip(turn, found, strict=True):
                    groups[i] = group
        return groups

    def _is_whole_in_memory(self) -> bool:
        """Whether sharded weights are gathered once for all tokens; else each token gathers them.

        Then all processes go in step: equally many turns and tokens, whatever their prompts; what
        one does for the others alone is dropped.
        """
        room = room_for_whole(self.model)
        if room.is_enough is not self._has_gathered:
            self._has_gathered = room.is_enough
            free = "" if room.free_bytes is None else f", {room.free_bytes / 2**30:.1f} GiB free"
            logger.info(
                "sharded weights of %.1f GiB%s: gathered %s while sampling",
                room.weight_bytes / 2**30, free,
                "once" if room.is_enough else "for each token, as some process lacks room,",
            )  # fmt: skip
        return room.is_enough

    def _generate_turn(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampling: SamplingConfig,
        seed: int,
        in_step: bool,
    ) -> list[tuple[Rollout, ...]]:
        limit = sampling.max_completion_tokens
        uniforms = torch.cat(
            [rollout_uniforms(seed, p.sample_id, num_rollouts, limit) for p in prompts]
        )
        logits, positions, prompt_cache = self._prefill(prompts)
        meter.count_prompts(prompt_cache.num_tokens, [*prompts] * num_rollouts)
        cache = RolloutCache(prompt_cache, num_rollouts, limit)
        logits = logits.repeat_interleave(num_rollouts, dim=0)
        positions = positions.repeat_interleave(num_rollouts)
        decode = self._decoder(positions, limit, in_step)
        uniforms = uniforms.to(logits.device)
        sampled = _Sampled(len(uniforms), limit, logits.device)
        for step in range(limit):
            chosen, logprobs = self._sample(logits, uniforms[sampled.alive, step], sampling)
            left = sampled.add(step, chosen, logprobs, self.eos_id)
            if self._is_over(left == 0, in_step) or step + 1 == limit:
                break
            if 0 < left <= _COMPACT_BELOW * len(chosen):
                kept = sampled.drop_finished()
                cache.select(kept)
                chosen, positions = chosen[kept], positions[kept]
            cache.advance()
            logits = self.model.lm_head(decode(chosen, positions + step, cache))
        return self._collect(prompts, num_rollouts, sampled, sampling)

    def _prefill(
        self, prompts: Sequence[EncodedPrompt]
    ) -> tuple[Float[Tensor, "prompts vocab"], Int[Tensor, " prompts"], PromptCache]:
        """Logits after every prompt, the position of what follows it, and what rollouts read.

        One pass of the network, and one of its tower; see `PromptCache`.

        Args:
            prompts: Those about one medium side by side.
        """
        backbone, device = self.model.model, self.model.device
        trunks, branches = share_media(prompts, [Row(i, ()) for i in range(len(prompts))])
        trunks = encode_vision(backbone, [trunk.to(device) for trunk in trunks])
        places = [branch.prompt for branch in branches]
        assert places == sorted(places), "prompts about one medium stand side by side"
        placed = place_prompts(backbone, trunks)
        layout = packed_layout(placed, branches, pad_token_id(self.model))
        assert layout.groups is not None
        cache = PromptCache(layout.groups, device)
        hidden = self._hidden(layout.ids, layout.position_ids, cache, trunks)
        following = [placed[branch.prompt].following + branch.num_tokens for branch in branches]
        logits = self.model.lm_head(hidden[0, layout.final])
        return logits, torch.tensor(following, device=device), cache

    def _decoder(self, positions: Tensor, limit: int, in_step: bool) -> Decode:
        """What turns the next token of each row into its last hidden state.

        In step, the network's own forward pass: its hooks gather the weights.
        """
        backbone = self.model.model
        if not in_step and is_decodable(backbone):
            return TokenDecoder(backbone, positions, limit)
        return lambda ids, places, cache: self._hidden(
            ids[:, None], places.expand(3, -1)[..., None], cache
        )[:, -1]

    def _hidden(
        self,
        ids: Tensor,
        positions: Tensor,
        plan: AttentionPlan,
        prompts: Sequence[EncodedPrompt] = (),
    ) -> Tensor:
        backbone = self.model.model
        family = family_of(backbone.config)
        return family.hidden_states(backbone, ids, positions, prompts, plan)

    def _is_over(self, is_done: bool, in_step: bool) -> bool:
        """Whether decoding ends, here or, in step, everywhere."""
        return not largest_anywhere(not is_done, self.model.device) if in_step else is_done

    def _sample(
        self, logits: Tensor, uniforms: Tensor, sampling: SamplingConfig
    ) -> tuple[Tensor, Tensor]:
        """Next ids, and their log-probabilities under the whole vocabulary at temperature 1."""
        logits = widened(logits)
        logprobs = logits.log_softmax(dim=-1)
        self.banned = self.banned.to(logits.device)
        allowed = logits.index_fill_(-1, self.banned, -torch.inf)
        if sampling.temperature == 0:
            chosen = allowed.argmax(dim=-1)
        else:
            chosen = _inverse_cdf(
                allowed / sampling.temperature, uniforms, sampling.top_p, sampling.top_k
            )
        return chosen, logprobs.gather(-1, chosen[:, None])[:, 0]

    def _collect(
        self,
        prompts: Sequence[EncodedPrompt],
        num_rollouts: int,
        sampled: _Sampled,
        sampling: SamplingConfig,
    ) -> list[tuple[Rollout, ...]]:
        rollouts = []
        lengths = sampled.lengths.tolist()
        rows = zip(sampled.ids.tolist(), sampled.logprobs.tolist(), lengths, strict=True)
        for row, (ids, logprobs, length) in enumerate(rows):
            completion = tuple(ids[:length])
            is_finished = completion[-1] == self.eos_id
            rollouts.append(
                Rollout(
                    sample_id=prompts[row // num_rollouts].sample_id,
                    index=row % num_rollouts,
                    completion_ids=completion,
                    rollout_logprobs=tuple(logprobs[:length]),
                    text=self.tokenizer.decode(completion[: length - is_finished]),
                    is_truncated=not is_finished,
                    temperature=sampling.temperature,
                )
            )
        return [
            tuple(rollouts[first : first + num_rollouts])
            for first in range(0, len(rollouts), num_rollouts)
        ]


def _inverse_cdf(logits: Tensor, uniforms: Tensor, top_p: float, top_k: int = 0) -> Tensor:
    """Sample by inverting the cumulative distribution in the order of the vocabulary.

    One uniform number decides a token, so a row draws the same whatever stands beside it.
    """
    probabilities = logits.softmax(dim=-1)
    if top_p < 1 or 0 < top_k < probabilities.shape[-1]:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        is_beyond = torch.zeros_like(order, dtype=torch.bool)
        if top_k:
            is_beyond[:, top_k:] = True
            ordered = ordered / ordered[:, :top_k].sum(dim=-1, keepdim=True)
        if top_p < 1:
            is_beyond |= ordered.cumsum(dim=-1) - ordered >= top_p
        probabilities = probabilities.masked_fill(is_beyond.scatter(-1, order, is_beyond), 0.0)
    reached = probabilities.cumsum(dim=-1, dtype=torch.float64)
    total = reached[:, -1:]
    points = (uniforms[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    # The first token whose reach is beyond the point: one of probability 0 never is.
    return torch.searchsorted(reached, points, right=True)[:, 0]


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
