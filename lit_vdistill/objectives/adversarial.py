"""The online discriminator: its pairwise loss, the reward it pays, its health."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

PairWeight = Literal["none", "q", "q_norm"]
RewardTransform = Literal["sigmoid_centered", "sigmoid", "raw"]


def pair_weights(
    qualities: Float[Tensor, " pairs"], mean_quality: float, mode: PairWeight = "none"
) -> Float[Tensor, " pairs"]:
    """The weight of each student-teacher pair in Eq. 7, q_m(i) or 1.

    R-MSD contradicts itself: Eq. 7 multiplies by q_m(i), the next sentence says that quality enters
    "rather than via an explicit per-sample weight" through matching. Matching in proportion to q
    and weighting by q together count it twice.

    Args:
        qualities: q of the matched teacher response.
        mean_quality: Mean of q over all pairs of the optimizer step.
        mode: `none`: the sentence. `q`: the equation. `q_norm`: q over its mean, so that the
            discriminator's learning rate does not shrink with the teacher's quality.
    """
    if mode == "none":
        return torch.ones_like(qualities)
    return qualities if mode == "q" else qualities / max(mean_quality, 1e-8)


def pairwise_total(
    teacher_scores: Float[Tensor, " pairs"],
    student_scores: Float[Tensor, " pairs"],
    weights: Float[Tensor, " pairs"],
) -> Float[Tensor, ""]:
    """Weighted Bradley-Terry loss of matched pairs, summed: -w log σ(D(T) - D(S)) (R-MSD Eq. 7).

    The equation's mean is over all pairs of an optimizer step, so who knows their number divides.
    No pairs give 0, still attached to the scores, so that every parameter gets a gradient.
    """
    return (-functional.logsigmoid(teacher_scores - student_scores) * weights).sum()


def discriminator_reward(
    student_scores: Float[Tensor, "batch group"],
    pool_scores: Float[Tensor, " batch"],
    transform: RewardTransform = "sigmoid_centered",
) -> Float[Tensor, "batch group"]:
    """What the discriminator pays a rollout, D_φ(S_i) of R-MSD Eq. 6. Detached.

    D is an unbounded logit while the weights of Eq. 6 sum to 1 "to maintain reward scale
    consistency" with terms in [0, 1], hence the default.

    Args:
        student_scores: D of each rollout.
        pool_scores: Expected D of the prompt's teacher responses under the matching distribution.
            Centring on the matched response instead would add noise to the group's advantages.
        transform: `sigmoid_centered`: σ(D(S) - pool score), 0.5 = as teacher-like as the pool.
            `sigmoid`: σ(D(S)). `raw`: D(S), as in GAD.
    """
    scores = student_scores.detach()
    if transform == "raw":
        return scores
    if transform == "sigmoid":
        return torch.sigmoid(scores)
    return torch.sigmoid(scores - pool_scores.detach()[:, None])
