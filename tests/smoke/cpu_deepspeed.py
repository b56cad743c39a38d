"""DeepSpeed's strategy on CPU, which Lightning reserves for CUDA; configs name it in tests."""

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch.distributed import ProcessGroupGloo, distributed_c10d


class _OneAtATime(ProcessGroupGloo):
    """gloo with one thread.

    Its two may lock a connection for good, at which its loop then spins (torch 2.14, four
    processes, ZeRO-3, which has it gather a hundred weights at once).
    """

    def __init__(self, store, rank, size, *, timeout, enable_reconfigure=False):
        options = ProcessGroupGloo._Options()
        options._devices = [ProcessGroupGloo.create_default_device()]
        options._timeout, options._threads = timeout, 1
        super().__init__(store, rank, size, options)


class CPUDeepSpeed(DeepSpeedStrategy):
    """DeepSpeed without the check for CUDA; gloo instead of NCCL."""

    def setup_environment(self):
        DDPStrategy.setup_environment(self)

    def setup_distributed(self):
        distributed_c10d.ProcessGroupGloo = _OneAtATime
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def root_device(self):
        return torch.device("cpu", self.local_rank)
