"""AdamW in which a parameter group can rest."""

from collections.abc import Callable
from typing import Any

import torch


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
