"""A network's weights as a checkpoint has them, whatever shards them in this run."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from lit_vdistill.models.families import family_of


def whole_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Names and whole weights, one behind another; a collective of all processes.

    Each is gathered as it is asked for, and dropped behind: copy what is kept. Tied weights come
    once, by the first of their names, which is the embedding's.
    """
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        with _gathered(tensor):
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            yield name, whole.detach()


def checkpoint_weights(model: PreTrainedModel, *, is_kept: bool = True) -> dict[str, Tensor]:
    """Copies on the host by the names and shapes of the family's checkpoints; a collective.

    Args:
        model: The network.
        is_kept: Whether this process wants them; the others only help to gather, and get none.
    """
    kept = {}
    for name, tensor in whole_weights(model):
        if is_kept:
            kept[name] = tensor.cpu().clone()
    if not kept:
        return {}
    family, found = family_of(model.config), revert_weight_conversion(model, kept)
    return {name: family.in_checkpoint(name, tensor) for name, tensor in found.items()}


def _gathered(tensor: Any) -> Any:
    """Makes a weight whole that ZeRO-3 has sharded."""
    if not hasattr(tensor, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([tensor])
