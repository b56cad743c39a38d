"""What a language-model head says about given tokens, a chunk of positions at a time.

Logits of all positions, `[batch, seq, vocab]`, never exist: a chunk's are made, read and dropped,
and made again in the backward pass. Memory grows with the chunk, not with the number of positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from lit_vdistill.models.forward import CompletionStates, completion_states, pad_token_id
from lit_vdistill.models.layout import Row
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.objectives.divergence import Divergence, divergence, with_rest
from lit_vdistill.objectives.precision import widened

CHUNK_SIZE = 1024
"""Positions whose logits exist at the same time: 0.6 GiB in float32 at 152 k words."""

_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Mean absolute difference of log-probabilities in nats that the order of summation may make.

Ten times and more what tiny networks show, since deep ones sum more: 4e-7 in float32, 6e-4 in
float16, 5e-3 in bfloat16. Transformers normalises float64 networks in float32 too, so that theirs
is a rounding of float32 now and then."""
_LARGEST = 20.0
"""How much farther one token may be: vLLM's rollouts of a tiny network are 4e-7 away on average and
4e-6 at the most in float32, 3e-3 and 0.22 in bfloat16."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """A head's word on completion tokens, natural logarithms; 0 at padding.

    In float32, and in float64 where the network is.
    """

    logprobs: Float[Tensor, "rows seq"]
    """Log-probability of each token; has a gradient."""
    entropies: Float[Tensor, "rows seq"]
    """Entropy of the distribution it was drawn from; no gradient."""
    mask: Bool[Tensor, "rows seq"]
    """True where there is a completion token and not padding."""
    top_ids: Int[Tensor, "rows seq top"] | None = None
    """The most probable ids, most probable first, where they were asked for."""
    top_logprobs: Float[Tensor, "rows seq top"] | None = None
    """Their log-probabilities under the whole vocabulary; no gradient."""
    chosen_logprobs: Float[Tensor, "rows seq chosen"] | None = None
    """Log-probabilities of the ids that were asked for; has a gradient."""
    divergences: Float[Tensor, "rows seq"] | None = None
    """From a teacher's distribution over the whole vocabulary, where one was given; has a gradient
    into the student alone."""
    normalizers: Float[Tensor, "rows seq"] | None = None
    """What was subtracted from the logits of a position to make log-probabilities of them; no
    gradient."""
    router_loss: Float[Tensor, ""] | None = None
    """See `CompletionStates.router_loss`."""


@dataclass(frozen=True, slots=True)
class TeacherHead:
    """A teacher of whole distributions: it has read the same completions, up to its head."""

    head: nn.Linear
    """Its `OneCallHead`."""
    hidden: Float[Tensor, "rows seq teacher_hidden"]
    """Its states, which predict the same tokens as the student's (`CompletionStates.hidden`)."""
    divergence: Divergence
    """How far the student is from it."""
    top_k: int = 0
    """Compare on its K most probable tokens and the rest; 0 = on the whole vocabulary."""

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        model: PreTrainedModel,
        prompts: Sequence[EncodedPrompt],
        rows: Sequence[Row],
        divergence: Divergence,
        top_k: int = 0,
    ) -> "TeacherHead":
        """Let a network read completions behind their prompts; see `completion_states`."""
        hidden = completion_states(model.model, prompts, rows, pad_token_id(model)).hidden
        return cls(model.lm_head, hidden, divergence, top_k)


@dataclass(frozen=True, slots=True)
class HeadRequest:
    """What a head is to say beside log-probabilities and entropies of the tokens themselves."""

    top_k: int = 0
    """How many of the most probable ids to return at each position; all, where there are fewer."""
    chosen_ids: Int[Tensor, "rows seq chosen"] | None = None
    """Ids whose log-probabilities to return at each position."""
    teacher: TeacherHead | None = None
    """Whose distributions to compare with. It makes logits of its own, and the backward pass some
    more, so that a chunk then takes about six times as much memory."""


def completion_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[EncodedPrompt],
    rows: Sequence[Row],
    request: HeadRequest | None = None,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> TokenScores:
    """Log-probability and entropy of every completion token, and what else is wanted.

    Args:
        model: The language model with its head.
        prompts: The prompts, on the model's device.
        rows: Completions, each with the index of its prompt.
        request: What else to say; None = nothing.
        chunk_size: Token positions whose logits exist at the same time.
    """
    states = completion_states(model.model, prompts, rows, pad_token_id(model))
    return head_scores(model.lm_head, states, request, chunk_size=chunk_size)


def head_scores(
    head: nn.Linear,
    states: CompletionStates,
    request: HeadRequest | None = None,
    *,
    chunk_size: int = CHUNK_SIZE,
) -> TokenScores:
    """Apply a language-model head to completion states; see `completion_logprobs`.

    The head is called exactly once, with no token too, and so is the teacher's: their weights may
    be sharded, and then all processes gather them together. Both must be `OneCallHead`s, as
    `load_model` makes them.
    """
    request = request or HeadRequest()
    mask, top_k, teacher, chosen_ids = (
        states.mask, request.top_k, request.teacher, request.chosen_ids,
    )  # fmt: skip
    if chosen_ids is None:
        chosen_ids = states.ids.new_empty(*mask.shape, 0)
    told = states.hidden[:, :, :0] if teacher is None else teacher.hidden
    tokens = (states.ids[mask], chosen_ids[mask], told[mask].detach())

    def in_chunks(hidden: Float[Tensor, "tokens hidden"]) -> tuple[Tensor, ...]:
        chunks = [
            checkpoint(_chunk_scores, head, *chunk, top_k, teacher, use_reentrant=False)
            for chunk in zip(*(part.split(chunk_size) for part in (hidden, *tokens)), strict=True)
        ]
        return tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))

    def beside_teacher(hidden: Float[Tensor, "tokens hidden"]) -> tuple[Tensor, ...]:
        return head(hidden, within=in_chunks)

    outer, work = (head, in_chunks) if teacher is None else (teacher.head, beside_teacher)
    found = outer(states.hidden[mask], within=work)
    logprobs, entropies, top_ids, top_logprobs, chosen, apart, totals = (
        _spread(x, mask) for x in found
    )
    return TokenScores(
        logprobs,
        entropies,
        mask,
        top_ids if top_k else None,
        top_logprobs if top_k else None,
        chosen if chosen_ids.shape[-1] else None,
        apart if teacher is not None else None,
        totals,
        states.router_loss,
    )


def _chunk_scores(
    head: nn.Linear,
    hidden: Float[Tensor, "chunk hidden"],
    targets: Int[Tensor, " chunk"],
    chosen_ids: Int[Tensor, "chunk chosen"],
    told: Float[Tensor, "chunk teacher_hidden"],
    top_k: int,
    teacher: TeacherHead | None,
) -> tuple[Tensor, ...]:
    logits = _logits(head, hidden)
    total = logits.logsumexp(dim=-1)
    picked = logits.gather(-1, torch.cat([targets[:, None], chosen_ids], dim=1)) - total[:, None]
    with torch.no_grad():
        probabilities = (logits - total[:, None]).exp_()
        entropy = total - (probabilities * logits).sum(dim=-1)
        top = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
        top_logprobs = top.values - total[:, None]
    apart = torch.zeros_like(entropy) if teacher is None else _apart(logits, teacher, told)
    named = picked[:, 0], entropy, top.indices, top_logprobs, picked[:, 1:]
    return *named, apart, total.detach()


def _logits(head: nn.Linear, hidden: Float[Tensor, "chunk _"]) -> Float[Tensor, "chunk vocab"]:
    # The weight is looked up here, since sharding puts another in its place for the backward pass.
    # It needs `linear` by its full name, which ZeRO-3 replaces.
    return widened(torch.nn.functional.linear(hidden, head.weight, head.bias))


def _apart(
    logits: Float[Tensor, "chunk vocab"],
    teacher: TeacherHead,
    told: Float[Tensor, "chunk teacher_hidden"],
) -> Float[Tensor, " chunk"]:
    """Divergence from the teacher, over the words that both networks have.

    Checkpoints of one tokenizer pad their vocabularies to different sizes; the padding is no word.
    """
    with torch.no_grad():
        theirs = _logits(teacher.head, told)
    words = min(logits.shape[-1], theirs.shape[-1])
    student, other = (of[:, :words].log_softmax(dim=-1) for of in (logits, theirs))
    if 0 < teacher.top_k < words:
        ids = other.topk(teacher.top_k, dim=-1).indices
        student, other = (with_rest(of.gather(-1, ids)) for of in (student, other))
    return divergence(student, other, teacher.divergence)


def _spread(values: Tensor, mask: Bool[Tensor, "rows seq"]) -> Tensor:
    """Values of tokens in their places, 0 at padding."""
    spread = values.new_zeros(*mask.shape, *values.shape[1:])
    return spread.masked_scatter(mask.view(*mask.shape, *[1] * (values.ndim - 1)), values)


def verify_shared_prefix(
    model: PreTrainedModel, prompts: Sequence[EncodedPrompt], rows: Sequence[Row]
) -> float:
    """Compare completions behind one copy of their prompt with a sequence a completion.

    Returns:
        The mean absolute difference of log-probabilities.

    Raises:
        RuntimeError: When it is beyond what rounding explains; the network then cannot share
            prompts, e.g. because its attention layers do not pass their arguments on.
    """
    backbone = model.model
    mode = backbone.shared_prefix
    try:
        with torch.no_grad():
            backbone.shared_prefix = "always"
            shared = completion_states(backbone, prompts, rows, pad_token_id(model))
            backbone.shared_prefix = "never"
            dense = completion_states(backbone, prompts, rows, pad_token_id(model))
            ours, theirs = (head_scores(model.lm_head, states) for states in (shared, dense))
    finally:
        backbone.shared_prefix = mode
    gap = (ours.logprobs - theirs.logprobs)[ours.mask].abs().mean().item()
    limit = rounding_limit(model)
    if not gap <= limit:
        raise RuntimeError(
            f"sharing prompts changes this network's log-probabilities by {gap:.2g} on average, "
            f"where rounding explains {limit:.0e} (sample {prompts[rows[0].prompt].sample_id}); "
            "train it with policy.shared_prefix 'never'"
        )
    return gap


def rounding_limit(model: PreTrainedModel) -> float:
    """How far two ways to compute the same log-probabilities may be apart, in nats on average.

    That of the type which sums are made in at present: under autocast not the weights'.
    """
    kind, dtype = model.device.type, model.dtype
    if torch.is_autocast_enabled(kind) and dtype != torch.float64:  # which autocast leaves alone
        dtype = torch.get_autocast_dtype(kind)
    return _ROUNDING[dtype]


def gap_problem(
    model: PreTrainedModel, gap: float, largest: float, *, is_apart: bool
) -> str | None:
    """What is wrong where the sampler has drawn from another distribution than is trained on.

    Args:
        model: The policy.
        gap: Mean absolute difference between the log-probabilities that the sampler and the trainer
            give to sampled tokens, before any update.
        largest: The largest of these differences: a mean hides what few prompts show.
        is_apart: Whether the sampler has weights of its own; else its largest is not looked at.

    Returns:
        One line; None where rounding explains the gap.
    """
    limit = rounding_limit(model)
    if gap <= limit and (largest <= _LARGEST * limit or not is_apart):
        return None
    return (
        f"sampler and trainer differ by {gap:.2g} nats a token on average (rollout/logprob_gap) and"
        f" {largest:.2g} at the most, where rounding explains {limit:.0e} and "
        f"{_LARGEST * limit:.0e}: the rollouts are not the policy's own"
    )
