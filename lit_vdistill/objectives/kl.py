"""Estimators of the KL divergence to the reference policy."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3"]


def kl_estimate(
    policy_logprobs: Float[Tensor, "batch seq"],
    ref_logprobs: Float[Tensor, "batch seq"],
    estimator: KLEstimator = "k3",
) -> Float[Tensor, "batch seq"]:
    """Per-token estimate of KL(policy || reference) on tokens of the policy (R-MSD Eq. 8).

    The paper names neither estimator nor γ. With `d = log π_ref - log π`:

    - `k1 = -d`: unbiased; as a loss its gradient is 0 in expectation, so it only measures.
    - `k2 = d²/2`: biased, its gradient is that of the true KL on policy.
    - `k3 = exp(d) - 1 - d`: unbiased and never negative, as GRPO and GAD use it.

    Args:
        policy_logprobs: Log-probabilities of the sampled tokens; may carry a gradient.
        ref_logprobs: The same under the reference; no gradient flows.
        estimator: Which of the three (http://joschu.net/blog/kl-approx.html).
    """
    difference = ref_logprobs.detach() - policy_logprobs
    if estimator == "k1":
        return -difference
    if estimator == "k2":
        return difference.square() / 2
    return torch.expm1(difference) - difference
