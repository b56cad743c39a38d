"""The clipped policy-gradient surrogate and the ways to average over tokens."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Reduction = Literal["sequence_mean", "token_mean"]


def clipped_surrogate(
    policy_logprobs: Float[Tensor, "batch seq"],
    old_logprobs: Float[Tensor, "batch seq"],
    advantages: Float[Tensor, "batch seq"],
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Float[Tensor, "batch seq"]:
    """Per-token loss of the clipped surrogate (GRPO; VISD Eqs. 9 and 16).

    With one update a batch the ratio is 1 and clipping is inert: the gradient is that of
    `-advantage * logprob`, R-MSD Eq. 8.

    Args:
        policy_logprobs: Log-probabilities that carry the gradient.
        old_logprobs: The same when the rollouts were sampled; no gradient.
        advantages: One a token; expand a rollout's advantage over its tokens.
        clip_low: The ratio counts down to `1 - clip_low`.
        clip_high: The ratio counts up to `1 + clip_high`.

    Returns:
        Loss a token, to be averaged by `masked_average`.
    """
    ratio = torch.exp(policy_logprobs - old_logprobs.detach())
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def masked_average(
    values: Float[Tensor, "batch seq"],
    loss_mask: Bool[Tensor, "batch seq"],
    reduction: Reduction = "sequence_mean",
) -> Float[Tensor, ""]:
    """Average over trained positions.

    Args:
        values: One a token; what stands at untrained positions does not matter, NaN included.
        loss_mask: True = trained.
        reduction: `sequence_mean`: mean over each sequence's tokens, then over sequences (GRPO,
            VISD Eq. 9). `token_mean`: mean over all tokens of the batch (DAPO).

    Returns:
        The average; 0 when nothing is trained. A sequence without a trained token counts as 0.
    """
    kept = values.masked_fill(~loss_mask, 0.0)
    if reduction == "token_mean":
        return kept.sum() / loss_mask.sum().clamp(min=1)
    return (kept.sum(dim=1) / loss_mask.sum(dim=1).clamp(min=1)).mean()
