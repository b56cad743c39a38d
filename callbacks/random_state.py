"""Random states that survive a resume."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_vdistill import processes


class RandomState(Callback):
    """Saves torch's, Python's and numpy's random states and restores them on resume.

    Without it dropout and whatever else draws from a global generator goes on from a fresh state
    after a resume, and the run differs from an uninterrupted one. Always on; needs no line in
    YAML. The states are restored before the first batch and not on loading, as setting up the data
    loaders draws from them. A checkpoint holds the states of all processes, and each takes its own
    back; with another number of processes they start from the first one's.
    """

    def __init__(self) -> None:
        """Nothing to restore yet."""
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only: checkpoints load with `weights_only=True`."""
        return {"processes": processes.gather(self._own_state())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the first batch."""
        states = state_dict["processes"]
        is_ours = len(states) == processes.world_size()
        self._loaded = states[processes.rank() if is_ours else 0]

    def _own_state(self) -> dict[str, Any]:
        name, keys, position, has_gauss, gauss = np.random.get_state()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "python": list(random.getstate()[1]),
            "python_gauss": random.getstate()[2],
            "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "numpy_rest": [int(position), int(has_gauss), float(gauss)],
        }

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore once."""
        if self._loaded is None:
            return
        state, self._loaded = self._loaded, None
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"].cpu())
        random.setstate((3, tuple(state["python"]), state["python_gauss"]))
        position, has_gauss, gauss = state["numpy_rest"]
        keys = state["numpy"].cpu().numpy().astype(np.uint32)
        np.random.set_state(("MT19937", keys, position, has_gauss, gauss))
