"""The clipped policy-gradient surrogate and the ways to average over tokens."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Reduction = Literal["sequence_mean", "token_mean"]
COUNTED = {"sequence_mean": "sequences", "token_mean": "tokens"}
"""What an average of each kind divides by."""


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
        Loss a token, to be summed by `masked_total`.
    """
    ratio = torch.exp(policy_logprobs - old_logprobs.detach())
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def masked_total(
    values: Float[Tensor, "batch seq"],
    loss_mask: Bool[Tensor, "batch seq"],
    reduction: Reduction = "sequence_mean",
    weights: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, ""]:
    """The numerator of an average over trained positions.

    An optimizer step may see its sequences in pieces and on several processes: totals are added,
    and divided once by what `COUNTED` names, counted over all of them.

    Args:
        values: One a token; what stands at untrained positions does not matter, NaN included.
        loss_mask: True = trained.
        reduction: `sequence_mean`: each sequence's mean over its tokens; the average is over
            sequences (GRPO, VISD Eq. 9). `token_mean`: all tokens alike (DAPO).
        weights: Factor on each sequence; None = 1.

    Returns:
        The total. A sequence without a trained token adds 0.
    """
    kept = values.masked_fill(~loss_mask, 0.0).sum(dim=1)
    if reduction == "sequence_mean":
        kept = kept / loss_mask.sum(dim=1).clamp(min=1)
    return (kept if weights is None else kept * weights).sum()
