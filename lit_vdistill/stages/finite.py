"""Nothing is learnt from what is no number: a run stops before the optimizer moves."""

from collections.abc import Sequence

from torch import Tensor

from lit_vdistill import processes

_KEPT = "no checkpoint is written from this step: go on from the last one (--ckpt_path)"


class NonFiniteError(RuntimeError):
    """A loss or a gradient is NaN or infinite."""


def loss_error(
    step: int,
    losses: Sequence[Tensor],
    samples: Sequence[Sequence[str]],
    terms: Sequence[str],
) -> NonFiniteError:
    """Why a step cannot be taken; all processes must ask together.

    Args:
        step: Optimizer steps that were taken before.
        losses: This process' pieces.
        samples: Ids of the samples of each piece.
        terms: Names of metrics that are no numbers either.
    """
    pairs = zip(losses, samples, strict=True)
    mine = [name for loss, names in pairs if not bool(loss.isfinite()) for name in names]
    found = [name for part in processes.gather(mine) for name in part]
    others = [name for name in terms if name != "train/loss"]
    return NonFiniteError(
        f"step {step}: train/loss is NaN or infinite in the pieces with the samples "
        f"{', '.join(found) or 'of no piece alone, but in their sum'}; so are: "
        f"{', '.join(others) or 'no other metrics'}. No weight has moved; {_KEPT}"
    )


def gradient_error(
    step: int, name: str, norm: float, samples: Sequence[str], *, has_moved: bool
) -> NonFiniteError:
    """Why a step cannot be taken whose loss is a number.

    Args:
        step: Optimizer steps that were taken before.
        name: Of the norm in the logs.
        norm: Equal on all processes.
        samples: Ids of this process' samples of the step.
        has_moved: Whether the norm is known only behind the optimizer's step.
    """
    state = "the weights are lost" if has_moved else "no weight has moved"
    return NonFiniteError(
        f"step {step}: the loss is a number, but {name} is {norm}, in a step with the "
        f"samples {', '.join(samples)}; {state}, {_KEPT}"
    )
