"""Any checkpoint as a student: `python -m lit_vdistill export`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_POLICY = "policy."
"""What the names of the student's weights begin with in a checkpoint."""
_CONFIG = "lit_vdistill_config"
Weights = Mapping[str, "Tensor"]


def export(ckpt: str, folder: str) -> None:
    """Make a student of a checkpoint, as fit does of its last weights.

    On one process without a GPU, whatever strategy has written it. DeepSpeed's files are pickles,
    which may do anything when they are read: take your own only.

    Args:
        ckpt: A checkpoint of a run: a file, or a folder of FSDP2's or DeepSpeed's.
        folder: Where the student goes; it must not exist.
    """
    import yaml
    from jsonargparse import ArgumentParser

    from callbacks.export_student import method_of, training_data, write_student
    from lit_vdistill.cli.training import let_users_modules_be_named
    from lit_vdistill.data.datamodule import VideoDistillDataModule
    from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
    from lit_vdistill.models.weights import checkpoint_weights
    from lit_vdistill.tracking.model_card import StudentFacts

    if not Path(ckpt).exists():
        raise FileNotFoundError(f"ckpt: {ckpt} does not exist")
    if Path(folder).exists():
        raise FileExistsError(f"folder: {folder} exists; name another, or remove it")
    facts, weights_like = _opened(Path(ckpt))
    if _CONFIG not in facts:
        raise ValueError(f"ckpt: {ckpt} was not written by a run of `fit`: it has no config in it")
    let_users_modules_be_named()
    run = yaml.safe_load(facts[_CONFIG])
    policy = run["model"]["init_args"]["policy"]
    model = load_model(VLMConfig(policy["path"], dtype=policy["dtype"]))
    model.load_state_dict(weights_like(model.state_dict()))
    parser = ArgumentParser()
    parser.add_argument("--data", type=VideoDistillDataModule)
    data = parser.instantiate(parser.parse_object({"data": run["data"]}))["data"]
    method = method_of(resolve_name(run["model"]["class_path"]))
    processor = load_processor(policy["path"])
    step, known = facts["global_step"], training_data(data, processor)
    card = StudentFacts(run["name"], policy["path"], method, step, data=known)
    write_student(Path(folder), model, checkpoint_weights(model), processor, card)


def _opened(path: Path) -> tuple[dict[str, Any], Callable[[Weights], Weights]]:
    """What a checkpoint says beside weights, and what gives those that a state dict asks for."""
    import torch

    if path.is_file():
        from lit_vdistill.cli.checkpoint_file import WholeFileIO

        whole = WholeFileIO().load_checkpoint(path, map_location="cpu", weights_only=True)
        return whole, lambda _: _of_policy(whole["state_dict"])
    if (path / "meta.pt").is_file():
        said = torch.load(path / "meta.pt", map_location="cpu", weights_only=True)
        return said, lambda asked: _of_fsdp2(path, asked)
    states = path / "checkpoint" / "mp_rank_00_model_states.pt"
    if not states.is_file():
        states = path / "checkpoint" / "zero_pp_rank_0_mp_rank_00_model_states.pt"
    if not states.is_file():
        raise ValueError(
            f"ckpt: {path} is a folder of neither FSDP2 (meta.pt) nor DeepSpeed (checkpoint/*.pt)"
        )
    said = torch.load(states, map_location="cpu", weights_only=False)
    return said, lambda _: _of_deepspeed(path)


def _of_policy(state: Weights) -> Weights:
    return {k.removeprefix(_POLICY): v for k, v in state.items() if k.startswith(_POLICY)}


def _of_fsdp2(path: Path, asked: Weights) -> Weights:
    """Shards put together, the policy's alone: no other network needs to fit the memory."""
    import torch
    from torch.distributed.checkpoint.state_dict_loader import load

    state = {f"{_POLICY}{name}": torch.empty_like(tensor) for name, tensor in asked.items()}
    load({"state_dict": state}, checkpoint_id=path)
    return _of_policy(state)


def _of_deepspeed(path: Path) -> Weights:
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    state: Any = get_fp32_state_dict_from_zero_checkpoint(str(path), tag="checkpoint")
    return _of_policy(state)
