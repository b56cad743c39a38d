"""The policy-gradient surrogates and the ways to average over tokens."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Ratio = Literal["token", "sequence"]
Surrogate = Literal["clipped", "truncated"]
Reduction = Literal["sequence_mean", "token_mean", "token_sum_over_limit"]
COUNTED = {
    "sequence_mean": "sequences",
    "token_mean": "tokens",
    "token_sum_over_limit": "token_limit",
}
"""What an average of each kind divides by."""


def policy_surrogate(
    policy_logprobs: Float[Tensor, "batch seq"],
    old_logprobs: Float[Tensor, "batch seq"],
    advantages: Float[Tensor, "batch seq"],
    loss_mask: Bool[Tensor, "batch seq"],
    *,
    ratio: Ratio = "token",
    surrogate: Surrogate = "clipped",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> tuple[Float[Tensor, "batch seq"], Bool[Tensor, "batch seq"]]:
    """Per-token loss of the policy gradient under a bounded probability ratio.

    With one update a batch the ratio is 1 and its bounds are inert: whatever the kind, the value is
    `-advantage` and the gradient that of `-advantage * logprob`, R-MSD Eq. 8.

    Args:
        policy_logprobs: Log-probabilities that carry the gradient.
        old_logprobs: The same when the rollouts were sampled; no gradient.
        advantages: One a token; expand a rollout's advantage over its tokens.
        loss_mask: True = trained; what stands elsewhere does not matter.
        ratio: `token`: each token's own (GRPO; VISD Eq. 9). `sequence`: at all tokens of a rollout
            the geometric mean of theirs, with the gradient of the token's log-probability times it
            (GSPO-token, arXiv:2507.18071, Eq. 14). Where one advantage is a rollout's, this is GSPO
            (Eq. 5); where a method gives its tokens factors, each keeps its own.
        surrogate: `clipped`: the lesser of free and bounded, so that a token which the step has
            moved far enough has no gradient (GRPO; VISD Eq. 16). `truncated`: the bounded ratio is
            a weight without gradient on that of the log-probability, which no token loses (CISPO,
            MiniMax-M1, arXiv:2506.13585, Eqs. 4-5); the value is the surrogate's, where the paper
            has the weighted log-probability itself.
        clip_low: The ratio counts down to `1 - clip_low`.
        clip_high: The ratio counts up to `1 + clip_high`.

    Returns:
        Loss a token, to be summed by `masked_total`, and where the bounds have changed it.
    """
    change = policy_logprobs - old_logprobs.detach()
    # 1 everywhere, with the gradient of the log-probability.
    unit = (policy_logprobs - policy_logprobs.detach()).exp()
    if ratio == "token":
        free = change.exp()
    else:
        total = change.detach().masked_fill(~loss_mask, 0.0).sum(dim=1, keepdim=True)
        free = (total / loss_mask.sum(dim=1, keepdim=True).clamp(min=1)).exp() * unit
    bounded = free.clamp(1 - clip_low, 1 + clip_high)
    if surrogate == "truncated":
        return -bounded.detach() * unit * advantages, bounded.detach() != free.detach()
    free, bounded = free * advantages, bounded * advantages
    return -torch.minimum(free, bounded), bounded.detach() < free.detach()


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
            `token_sum_over_limit`: all tokens alike, over the number that the sequences might have
            had, so that a long one does not weigh less a token (Dr.GRPO, arXiv:2503.20783).
        weights: Factor on each sequence; None = 1.

    Returns:
        The total. A sequence without a trained token adds 0.
    """
    kept = values.masked_fill(~loss_mask, 0.0).sum(dim=1)
    if reduction == "sequence_mean":
        kept = kept / loss_mask.sum(dim=1).clamp(min=1)
    return (kept if weights is None else kept * weights).sum()
