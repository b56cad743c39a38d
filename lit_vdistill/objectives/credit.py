"""Token credit from a privileged teacher (VISD §3.3, Appendix E.3).

The reward says which way a rollout is pushed; the teacher, which knows answer, evidence and
feedback, says how strongly each of its tokens. Nothing here has a gradient.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lit_vdistill.objectives.precision import widened


def local_support(
    top_ids: Int[Tensor, "*seq top"], realized_ids: Int[Tensor, "*seq"]
) -> tuple[Int[Tensor, "*seq support"], Bool[Tensor, "*seq support"]]:
    """The teacher's top K and the realized token (VISD Eq. 3, 20).

    Args:
        top_ids: The teacher's K most probable ids.
        realized_ids: What the student sampled.

    Returns:
        Ids, the realized one first, and which of them count: the realized token among the top K
        is not counted twice.
    """
    realized = realized_ids[..., None]
    ids = torch.cat([realized, top_ids], dim=-1)
    is_counted = torch.cat([torch.ones_like(realized, dtype=torch.bool), top_ids != realized], -1)
    return ids, is_counted


def support_log_ratio(
    teacher_logprobs: Float[Tensor, "*seq support"],
    student_logprobs: Float[Tensor, "*seq support"],
    is_counted: Bool[Tensor, "*seq support"],
) -> Float[Tensor, "*seq"]:
    """Δ: how much more probable the teacher finds the realized token (VISD Eq. 4, 21-22).

    Both distributions are renormalised over the support, so a constant in all of its
    log-probabilities cancels: logits would give the same.

    Args:
        teacher_logprobs: Of the support's ids, the realized one first.
        student_logprobs: The same.
        is_counted: From `local_support`.
    """
    ratios = []
    for logprobs in (teacher_logprobs, student_logprobs):
        counted = widened(logprobs.detach()).masked_fill(~is_counted, -torch.inf)
        ratios.append(counted[..., 0] - counted.logsumexp(dim=-1))
    return ratios[0] - ratios[1]


def sampled_log_ratio(
    teacher_logprobs: Float[Tensor, "*seq"], student_logprobs: Float[Tensor, "*seq"]
) -> Float[Tensor, "*seq"]:
    """Δ under the whole vocabulary: RLSD's, and VISD's with K = V (the sampled-token variant)."""
    return teacher_logprobs.detach() - student_logprobs.detach()


def rounded_log_ratio(
    teacher_logits: Float[Tensor, "*seq support"],
    student_logits: Float[Tensor, "*seq support"],
    is_counted: Bool[Tensor, "*seq support"],
) -> Float[Tensor, "*seq"]:
    """`support_log_ratio` in bfloat16, as VISD's released code has it: no equation of the paper.

    Logits, each log-softmax and Δ are rounded. Logits of 8 to 32 are then 0.06 to 0.125 apart, so
    that Δ is exactly 0 where the two networks nearly agree.

    Args:
        teacher_logits: Of the support's ids, the realized one first; as the head gives them, since
            a constant matters here.
        student_logits: The same.
        is_counted: From `local_support`.

    Returns:
        The rounded Δ, in float32.
    """
    sides = [
        logits.detach().bfloat16().masked_fill(~is_counted, -torch.inf).log_softmax(dim=-1)[..., 0]
        for logits in (teacher_logits, student_logits)
    ]
    return (sides[0] - sides[1]).float()


def rounded_logprobs(
    logprobs: Float[Tensor, "*seq"], normalizers: Float[Tensor, "*seq"]
) -> Float[Tensor, "*seq"]:
    """Log-probabilities under the whole vocabulary, as bfloat16 logits give them in bfloat16."""
    logits = (logprobs + normalizers).detach().bfloat16()
    return (logits.float() - normalizers).bfloat16()


def check_clip(clip: float | None) -> None:
    """Refuse a bound that lets a weight turn the reward's direction.

    Raises:
        ValueError: Outside of [0, 1); None is no bound.
    """
    if clip is not None and not 0.0 <= clip < 1.0:
        raise ValueError(
            f"credit.clip {clip}: expected 0 <= clip < 1, else weights may turn signs, or null for "
            "no bound"
        )


def token_weights(
    log_ratio: Float[Tensor, "rows seq"], advantages: Float[Tensor, " rows"], clip: float | None
) -> Float[Tensor, "rows seq"]:
    """M = clip(exp(sign(A) Δ), 1 - ε, 1 + ε) (VISD Eq. 5-6, 25).

    Positive for `clip` < 1, so that no weight turns the reward's direction (Eq. 27), and without a
    bound too; but then one token may weigh as much as all others. Where the advantage is 0 the
    weight is 1: such a rollout moves nothing and needs no teacher.

    Args:
        log_ratio: Δ of each token.
        advantages: A of each rollout.
        clip: ε_w, in [0, 1); None = no bound.
    """
    check_clip(clip)
    weights = (advantages.sign()[:, None] * log_ratio).exp()
    return weights if clip is None else weights.clamp(1.0 - clip, 1.0 + clip)


def mixed_credit(weights: Float[Tensor, "rows seq"], mix: float) -> Float[Tensor, "rows seq"]:
    """(1 - λ) + λ m: the factor on each token's advantage (VISD Eq. 7, 26).

    With λ = 0 it is 1 everywhere, to the bit: GRPO. Its bounds are 1 ± λ ε (Eq. 28).
    """
    return 1.0 + mix * (weights - 1.0)
