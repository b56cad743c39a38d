"""A teacher that follows its student slowly (VISD Eq. 8)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from lit_vdistill import processes
from lit_vdistill.models.sharding import drop_gathered, is_zero3_sharded

Move = Callable[[str, Tensor, Tensor, float], None]
"""Name, weight of the teacher, that of the student, rate."""


class EMAWeights:
    """Moves a teacher towards its student, in float32 whatever both are stored in.

    In bfloat16 a hundredth of a small change rounds to nothing and the teacher stands still, so
    its weights are kept in float32 here and copied into the network. A float32 teacher is its own
    master. Where weights are sharded every process keeps and moves its own shards.
    """

    def __init__(self) -> None:
        """Start without a master; it is taken from the teacher at the first update."""
        self.master: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(
        self, teacher: nn.Module, student: nn.Module, rate: float, *, in_place: bool = False
    ) -> None:
        """Move every weight: t <- (1 - rate) t + rate s.

        Args:
            teacher: A copy of the student, changed in place.
            student: Its student, on the same device and sharded alike.
            rate: 1 - τ of Eq. 8; 1 copies the student.
            in_place: Round product and sum to the teacher's own type, and keep no master, as VISD's
                released code does; a bfloat16 teacher then hardly follows.
        """
        move = self._move_in_place if in_place else self._move
        drop_gathered(teacher)
        if is_zero3_sharded(teacher):
            self._update_shards(teacher, student, rate, move)
            return
        drop_gathered(student)
        sources = dict(student.named_parameters())
        for name, target in teacher.named_parameters():
            move(name, target.data, sources[name], rate)

    def _move_in_place(self, name: str, target: Tensor, source: Tensor, rate: float) -> None:
        target.mul_(1.0 - rate).add_(source.to(target.dtype), alpha=rate)

    def _move(self, name: str, target: Tensor, source: Tensor, rate: float) -> None:
        if target.dtype == torch.float32:
            target.lerp_(source.float(), rate)
            return
        master = self.master.setdefault(name, target.float())
        if isinstance(target, DTensor) and not isinstance(master, DTensor):  # from a checkpoint
            master = distribute_tensor(master, target.device_mesh, target.placements)
            self.master[name] = master
        master.lerp_(source.float(), rate)
        target.copy_(master)

    def _update_shards(
        self, teacher: nn.Module, student: nn.Module, rate: float, move: Move
    ) -> None:
        """Edit ZeRO-3's shards in place.

        The student's shard comes from the optimizer's float32 copy; what is not trained has none
        and has not moved.
        """
        from deepspeed.utils import safe_get_local_fp32_param

        targets: dict[str, Any] = dict(teacher.named_parameters())  # DeepSpeed adds attributes
        sources = dict(student.named_parameters())
        for name, target in targets.items():
            source = safe_get_local_fp32_param(sources[name])
            if source is None:
                continue
            shard = target.ds_tensor.data
            length = source.numel()
            # With an offloaded optimizer it is on the CPU.
            move(name, shard[:length], source.view(-1).to(shard.device), rate)

    def state(self) -> dict[str, Tensor]:
        """The master for a checkpoint; a collective under FSDP2.

        There the first process writes for all: its weights are whole, on the CPU, and others have
        none. Under ZeRO-3 each process writes its own shards.
        """
        state: dict[str, Tensor] = {}
        for name, tensor in self.master.items():
            if isinstance(tensor, DTensor):
                whole = tensor.full_tensor()
                if processes.rank() == 0:
                    state[name] = whole.cpu()
            else:
                state[name] = tensor
        return state
