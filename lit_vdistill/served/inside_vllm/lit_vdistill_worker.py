"""Runs inside vLLM's workers, in vLLM's environment: new weights from a file of a shared disk.

`serve` puts this folder on the server's path and names `WorkerExtension` to it
(`--worker-extension-cls`). It imports nothing of this package, which is not installed there. vLLM
has a backend for NCCL itself.
"""

from dataclasses import dataclass
from typing import Any

from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)


@dataclass
class FileInit(WeightTransferInitInfo):
    """Nothing has to be agreed on before."""


@dataclass
class FileUpdate(WeightTransferUpdateInfo):
    """Where the weights are."""

    path: str
    """A safetensors file with names and shapes of the checkpoint that was loaded."""


class FileWeightTransfer(WeightTransferEngine[FileInit, FileUpdate]):
    """Loads a whole checkpoint over the weights that are there."""

    init_info_cls = FileInit
    update_info_cls = FileUpdate

    def init_transfer_engine(self, init_info: FileInit) -> None:
        """Nothing to set up."""

    def start_weight_update(self) -> None:
        """Bring the layers back to the form in which checkpoints come."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Read and load; all of it is there on return, as nothing here is asynchronous."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: FileUpdate) -> None:
        """Load the file, tensor after tensor."""
        with safe_open(update_info.path, framework="pt", device=str(self.device)) as file:
            self.model.load_weights((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118

    def finish_weight_update(self) -> None:
        """Bring the layers to the form in which they run."""
        finalize_layerwise_reload(self.model, self.model_config)
        # A head tied to the embedding keeps the copy that it has packed of it for the CPU.
        for module in self.model.modules():
            method = getattr(module, "quant_method", None)
            if type(module).__name__ == "ParallelLMHead" and method is not None:
                method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        """Nothing to let go."""


WeightTransferEngineFactory.register_engine("file", FileWeightTransfer)


class WorkerExtension:
    """Names nothing new: importing this file has registered the backend."""
