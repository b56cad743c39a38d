"""AdamW and its schedule: groups that can rest, what does not decay, clipping."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor

from lit_vdistill.objectives.schedules import Decay

ADAM_EPS = 1e-8
QUIET = 2.0**-7
"""Factor on the gradients of networks beside the policy where all are clipped as one."""


@dataclass(frozen=True)
class OptimConfig:
    """How the policy is updated: AdamW, its schedule, and how much goes through at once."""

    lr: float = 2e-6
    """Peak learning rate of the policy (R-MSD §4.1.3)."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay of all but norms and biases; R-MSD names none."""
    warmup_ratio: float = 0.03
    """Share of the run over which the rate rises."""
    decay: Decay = "cosine"
    """What follows: `cosine` or `linear` to 0, or `constant`."""
    horizon: int = 0
    """Optimizer steps of the schedule, however long the run is; 0 = `trainer.max_steps`."""
    max_tokens: int = 32768
    """Tokens of one forward and backward pass: prompts and, for each completion, the longest it may
    be. A step goes through in `trainer.accumulate_grad_batches` pieces within it."""


def quiet(loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """A loss of the same value, with `QUIET` times its gradient."""
    return loss * QUIET + (loss * (1.0 - QUIET)).detach()


def quiet_eps() -> float:
    """ε of AdamW for such a loss: its steps are then those of the loss itself, to rounding."""
    return ADAM_EPS * QUIET


def with_decay(group: dict[str, Any], weight_decay: float) -> list[dict[str, Any]]:
    """A network's parameter group, cut in two where its weights decay: norms and biases do not.

    As in transformers' trainer, with which VISD was released: what has one dimension stays out.

    Args:
        group: With the network's `name` and its `params`.
        weight_decay: AdamW's.

    Returns:
        Groups that name their `network`.
    """
    group = group | {"network": group["name"], "weight_decay": weight_decay}
    if not weight_decay:
        return [group]
    parts: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for parameter in group["params"]:
        # ZeRO-3 leaves of each parameter an empty one, and its shape beside it.
        parts[len(getattr(parameter, "ds_shape", parameter.shape)) > 1].append(parameter)
    resting = {"name": f"{group['name']}_without_decay", "weight_decay": 0.0}
    found = [group | {"params": parts[True]}, group | resting | {"params": parts[False]}]
    return [part for part in found if part["params"]]


def gradients_of(optimizer: torch.optim.Optimizer) -> dict[str, list[Tensor]]:
    """All gradients by network; DeepSpeed keeps them to itself, so there are none."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for group in optimizer.param_groups:
        found[group["network"]] += [p.grad for p in group["params"] if p.grad is not None]
    return {network: gradients for network, gradients in found.items() if gradients}


def total_norm(gradients: Sequence[Tensor]) -> Float[Tensor, ""]:
    """The norm of a network's gradients, whole on each process; a collective of shards."""
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def clip_to_norm(gradients: Sequence[Tensor], max_norm: float) -> None:
    """Scale a network's gradients so that their norm is at most `max_norm`, as PyTorch does."""
    factor = float((max_norm / (total_norm(gradients) + 1e-6)).clamp(max=1.0))
    if factor < 1.0:
        for gradient in gradients:
            gradient.mul_(factor)


class RestingAdamW(torch.optim.AdamW):
    """AdamW that leaves a group alone while its learning rate is 0.

    Stock AdamW goes on counting: after n steps with zero gradients its second moment is too small
    for its count, and the first real updates are too large, by 1.6 for a warm-up of 15 steps. And
    a momentum would move weights that are not meant to learn. Here neither weights nor moments nor
    the count change. DeepSpeed steps the groups of the optimizer that it was given, so the same
    holds for its shards.

    States are made in the first step, for who rests too: PyTorch's distributed checkpoints find the
    tensors to load into by a step at rate 0, and want the same ones in all checkpoints.
    """

    def step(self, closure: Callable[[], float] | None = None) -> Any:  # type: ignore[override]
        """One step of the groups that learn; see `torch.optim.AdamW.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        whole = self.param_groups
        for parameter in (p for group in whole for p in group["params"] if p.requires_grad):
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.tensor(0.0, dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        # In place of the attribute: a group that is not in the list is not looked at.
        self.param_groups = [group for group in whole if group["lr"] != 0.0]
        try:
            super().step()
        finally:
            self.param_groups = whole
        return loss
