"""Importance weights between the policy that learns and the one that has drawn.

They differ where an engine of its own has sampled: by rounding, and by age, where it has sampled
ahead.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

Mismatch = Literal["none", "truncate", "mask"]
MismatchLevel = Literal["token", "sequence"]


def mismatch_weights(
    policy_logprobs: Float[Tensor, "batch seq"],
    sampler_logprobs: Float[Tensor, "batch seq"],
    loss_mask: Bool[Tensor, "batch seq"],
    *,
    kind: Mismatch = "truncate",
    level: MismatchLevel = "token",
    cap: float = 2.0,
) -> tuple[Float[Tensor, "batch seq"], Bool[Tensor, "batch seq"]]:
    """What each token's loss counts, so that its average is over the policy's own draws.

    The ratio of probabilities, policy over sampler, of a token or of all its sequence. It is
    unbiased as it stands and has no bound; `truncate` bounds it from above, `mask` drops what is
    beyond. As PPO is decoupled from its sampler (Hilton et al., arXiv:2110.00641) with the bound
    of IMPALA's weights (Espeholt et al., arXiv:1802.01561).

    Args:
        policy_logprobs: Before the window's first update.
        sampler_logprobs: As the sampler has told them, over the same tokens and by the same rule.
        loss_mask: True = trained; what stands elsewhere does not matter.
        kind: `none`: 1 everywhere.
        level: `token`: each its own. `sequence`: the product over its tokens, at each of them.
        cap: Largest ratio that counts as it is.

    Returns:
        Weights, without gradient, and where the cap has changed them.
    """
    change = (policy_logprobs - sampler_logprobs).detach().masked_fill(~loss_mask, 0.0)
    if kind == "none":
        return change.new_ones(change.shape), loss_mask.new_zeros(loss_mask.shape)
    if level == "sequence":
        change = change.sum(dim=1, keepdim=True).expand_as(change)
    ratio = change.clamp(max=20.0).exp()
    is_beyond = (ratio > cap) & loss_mask
    bound = ratio.new_full((), cap if kind == "truncate" else 0.0)
    return ratio.where(~is_beyond, bound), is_beyond
