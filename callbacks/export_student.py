"""The trained student as an ordinary Hugging Face folder."""

from contextlib import ExitStack
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from lit_vdistill.stages.vlm_stage import VLMStage


class ExportStudent(Callback):
    """Writes the policy and its processor at the end of fit.

    The folder loads by `AutoModelForImageTextToText.from_pretrained`, and the next stage names it
    as `model.policy.path`. Sharded weights are gathered first. Without this callback a run leaves
    Lightning checkpoints only.
    """

    def __init__(self, folder: str) -> None:
        """Set up.

        Args:
            folder: Where the export goes; an older one is overwritten.
        """
        self.folder = Path(folder)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather on all processes, write on the first."""
        assert isinstance(pl_module, VLMStage)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        assert pl_module.policy is not None
        weights = full_weights(pl_module.policy)
        if trainer.is_global_zero:
            partial = self.folder.with_name(self.folder.name + ".partial")
            pl_module.policy.save_pretrained(partial, state_dict=weights)
            pl_module.processor.save_pretrained(partial)
            _replace(partial, self.folder)


def full_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The whole state dict on the CPU, whatever shards it: nothing, FSDP2 or ZeRO-3."""
    sharded = [p for p in model.parameters() if hasattr(p, "ds_id")]
    with ExitStack() as stack:
        if sharded:
            import deepspeed

            stack.enter_context(deepspeed.zero.GatheredParameters(sharded))
        # Tied weights are one tensor under two names; the first, the embedding's, is what loads.
        state = model.state_dict(keep_vars=True)
        first: dict[int, str] = {}
        for name, tensor in state.items():
            first.setdefault(id(tensor), name)
        return {name: _whole(state[name]) for name in first.values()}


def _whole(tensor: Tensor) -> Tensor:
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.detach().cpu().clone()


def _replace(source: Path, target: Path) -> None:
    """Put a finished folder in place of an older one, so that no half of an export is ever seen."""
    import shutil

    if target.exists():
        shutil.rmtree(target)
    source.rename(target)
