"""Log-probabilities of given tokens without the logits of a whole batch in memory."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from lit_vdistill.models.forward import CompletionStates, completion_states, pad_token_id
from lit_vdistill.models.layout import Row
from lit_vdistill.models.prompt import EncodedPrompt


def completion_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[EncodedPrompt],
    rows: Sequence[Row],
    chunk_size: int = 4096,
) -> tuple[Float[Tensor, "rows seq"], Float[Tensor, "rows seq"], Bool[Tensor, "rows seq"]]:
    """Natural log-probability and entropy of every completion token, in float32.

    Args:
        model: The language model with its head.
        prompts: The prompts, on the model's device.
        rows: Completions, each with the index of its prompt.
        chunk_size: Token positions whose logits exist at the same time; the backward pass computes
            them again.

    Returns:
        Log-probabilities (0 at padding), entropies (no gradient, 0 at padding), and the mask.
    """
    states = completion_states(model.model, prompts, rows, pad_token_id(model))
    logprobs, entropies = head_logprobs(model.lm_head, states, chunk_size)
    return logprobs, entropies, states.mask


def head_logprobs(
    head: nn.Module, states: CompletionStates, chunk_size: int
) -> tuple[Float[Tensor, "rows seq"], Float[Tensor, "rows seq"]]:
    """Apply a language-model head to completion states, chunk by chunk."""
    hidden, targets = states.hidden[states.mask], states.ids[states.mask]
    parts = [
        checkpoint(_chunk_logprobs, head, hidden_part, target_part, use_reentrant=False)
        for hidden_part, target_part in zip(
            hidden.split(chunk_size), targets.split(chunk_size), strict=True
        )
    ]
    logprobs = hidden.new_zeros(states.mask.shape, dtype=torch.float32)
    entropies = torch.zeros_like(logprobs)
    logprobs = logprobs.masked_scatter(states.mask, torch.cat([part[0] for part in parts]))
    entropies = entropies.masked_scatter(states.mask, torch.cat([part[1] for part in parts]))
    return logprobs, entropies


def _chunk_logprobs(head: nn.Module, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    log_softmax = head(hidden).float().log_softmax(dim=-1)
    chosen = log_softmax.gather(-1, targets[:, None])[:, 0]
    with torch.no_grad():
        entropy = -(log_softmax.exp() * log_softmax).sum(dim=-1)
    return chosen, entropy
