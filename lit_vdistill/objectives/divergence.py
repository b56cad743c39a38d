"""How far a student's next-token distribution is from a teacher's, token by token.

On-policy distillation takes the mean of it over tokens that the student has sampled. The gradient
is that of the divergence at each token with the samples as they are: that a changed student would
sample other tokens is left out, as in GKD (arXiv:2306.13649). MiniLLM (arXiv:2306.08543) means by
reverse KL the one of whole sequences and has policy gradient for that part too; ours is the sum
over the vocabulary at one token alone, the former half of MiniLLM's single-step decomposition.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from lit_vdistill.objectives.precision import widened

Divergence = Literal["reverse", "forward", "jensen_shannon"]

_IMPOSSIBLE = -1e4
"""Stands for log 0, so that nothing is infinite; its exponential is 0 in float64 too."""


def divergence(
    student_logprobs: Float[Tensor, "*seq support"],
    teacher_logprobs: Float[Tensor, "*seq support"],
    kind: Divergence,
) -> Float[Tensor, "*seq"]:
    """Divergence in nats between two distributions over the last axis.

    With p the student's, q the teacher's and m = (p + q) / 2:

    - `reverse`: KL(p || q) = Σ p (log p - log q). The student avoids what the teacher would not say
      (MiniLLM).
    - `forward`: KL(q || p) = Σ q (log q - log p). The student covers what the teacher might say.
    - `jensen_shannon`: (KL(p || m) + KL(q || m)) / 2, symmetric and at most log 2. GKD's
      generalised form with its β = 1/2.

    At least in float32. A token that one finds impossible (-inf) and the other does not costs a
    lot, but not infinitely much, and no gradient flows into -inf.

    Args:
        student_logprobs: Log-probabilities that sum to 1 as probabilities; may carry a gradient.
        teacher_logprobs: The teacher's over the same support; no gradient flows.
        kind: Which of the three.
    """
    student, teacher = _finite(student_logprobs), _finite(teacher_logprobs.detach())
    if kind == "forward":
        return (teacher.exp() * (teacher - student)).sum(dim=-1)
    if kind == "reverse":
        return (student.exp() * (student - teacher)).sum(dim=-1)
    # log m = log p + softplus(log q - log p) - log 2, which is exact where both are equal.
    lead = teacher - student
    of_student = student.exp() * (math.log(2) - softplus(lead))
    of_teacher = teacher.exp() * (math.log(2) - softplus(-lead))
    return (of_student + of_teacher).sum(dim=-1) / 2


def with_rest(logprobs: Float[Tensor, "*seq top"]) -> Float[Tensor, "*seq support"]:
    """A top-K support and one bucket with all other tokens: log(1 - Σ p).

    A divergence over it is never more than that over the vocabulary, as merging tokens cannot tell
    distributions apart better (data processing inequality), and unlike one over the K alone it
    sees mass that moves in or out. Neither paper has it: both use the vocabulary.

    Rounding of log-probabilities decides about a rest below some steps of the type (2e-6 in
    float32): the bucket then holds that much, and no gradient flows into its mass.

    Args:
        logprobs: Log-probabilities of different tokens under the whole vocabulary; -inf for one
            that is not to count. At least one is finite.
    """
    logprobs = widened(logprobs)
    least = 16 * torch.finfo(logprobs.dtype).eps
    mass = logprobs.logsumexp(dim=-1, keepdim=True).clamp(max=-least)
    return torch.cat([logprobs, (-torch.expm1(mass)).log()], dim=-1)


def _finite(logprobs: Tensor) -> Tensor:
    return widened(logprobs).masked_fill(logprobs == -torch.inf, _IMPOSSIBLE)
