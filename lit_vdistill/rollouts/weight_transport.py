"""How new weights get from the trainer to a vLLM server."""

import base64
import os
import tempfile
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.cuda import nccl

from lit_vdistill.served.vllm_client import RolloutServer


@runtime_checkable
class WeightTransport(Protocol):
    """Carries the weights of process 0, which it keeps until the next ones come."""

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Keep these, on the host, as those to be sent."""
        ...

    def send(self, server: RolloutServer) -> None:
        """Tell a server that awaits them, and see that it has them."""
        ...

    def forget(self) -> None:
        """The server may be another than the one that was met."""
        ...


class FileTransport:
    """A safetensors file on a disk, or in shared memory, that trainer and server both see."""

    def __init__(self, folder: str | None = None) -> None:
        """Set up.

        Args:
            folder: Where the file is put; None is memory of this machine, or its temporary folder.
        """
        self.folder = folder
        self._path: Path | None = None

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """See `WeightTransport.take`; written beside the old one, which it then replaces."""
        if self._path is None:
            shared = Path("/dev/shm")
            root = self.folder or (shared if os.access(shared, os.W_OK) else None)
            if self.folder is not None:
                Path(self.folder).mkdir(parents=True, exist_ok=True)
            holder = tempfile.TemporaryDirectory(prefix="lit_vdistill_weights_", dir=root)
            weakref.finalize(self, holder.cleanup)
            self._path = Path(holder.name).resolve() / "weights.safetensors"
        partial = self._path.with_suffix(".partial")
        save_file(dict(weights), partial)
        partial.replace(self._path)

    def send(self, server: RolloutServer) -> None:
        """See `WeightTransport.send`."""
        server.send_update({"path": str(self._path)})

    def forget(self) -> None:
        """A file is found by whoever looks for it."""


class NCCLTransport:
    """Broadcasts from process 0's GPU to those of the server's workers, which are other GPUs.

    The trainer is rank 0 of a group of its own with vLLM's workers; vLLM's `nccl` backend without
    packing is the other side.
    """

    def __init__(self) -> None:
        """Nobody has been met."""
        self._weights: Mapping[str, Tensor] = {}
        self._group: Any = None

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """See `WeightTransport.take`."""
        self._weights = weights

    def send(self, server: RolloutServer) -> None:
        """See `WeightTransport.send`; the server is told in a thread, as both sides must be in."""
        device = torch.device("cuda", torch.cuda.current_device())
        with ThreadPoolExecutor(1) as other:
            if self._group is None:
                self._group = self._meet(server, other, device)
            tensors = self._weights.values()
            told = {
                "names": list(self._weights),
                "dtype_names": [str(t.dtype).removeprefix("torch.") for t in tensors],
                "shapes": [list(t.shape) for t in tensors],
            }
            is_received = other.submit(server.send_update, told)
            for tensor in tensors:
                nccl.broadcast([tensor.to(device)], comms=[self._group])
            torch.cuda.synchronize(device)
            is_received.result()

    def forget(self) -> None:
        """See `WeightTransport.forget`."""
        self._group = None

    def _meet(
        self, server: RolloutServer, other: ThreadPoolExecutor, device: torch.device
    ) -> object:
        """A group with all of the server's workers; each side then adds up a 1, as vLLM wants."""
        size = 1 + server.num_workers()
        name = nccl.unique_id()
        agreed = {
            "nccl_unique_id_b64": base64.b64encode(name).decode("ascii"),
            "rank_offset": 1,
            "world_size": size,
        }
        has_met = other.submit(server.begin_transfer, agreed)
        group = nccl.init_rank(size, name, 0)
        one = torch.ones(1, device=device)
        nccl.all_reduce([one], comms=[group])
        torch.cuda.synchronize(device)
        has_met.result()
        return group
