"""Loading any network, tiny or real, local or from a hub, by the same call."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import HF_HUB_OFFLINE
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from lit_vdistill.models.families import family_of
from lit_vdistill.models.forward import SharedPrefix
from lit_vdistill.models.head import OneCallHead
from lit_vdistill.models.sharding import is_zero3_sharded
from lit_vdistill.models.shared_prefix import AttentionKernel
from lit_vdistill.models.tiny import build_tiny_model, build_tiny_processor

_TINY = "tiny/"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class VLMConfig:
    """Which network to load and how."""

    path: str
    """`tiny/qwen3-vl` or another of `models/tiny.py` (offline, random weights), a folder, or a hub
    id."""
    attn_implementation: AttentionKernel = "sdpa"
    """Attention kernel: `sdpa` anywhere; `flex_attention` or `flash_attention_2` (extra `gpu`) on
    GPU, where they spare copies of the prompt's keys."""
    shared_prefix: SharedPrefix = "auto"
    """Run a prompt once for all of its completions: `auto` where it has several, `always`, or
    `never` (a sequence a completion)."""
    verify_shared_prefix: Literal["first_batch", "never"] = "first_batch"
    """Compare both on the first prompt that is trained on, and stop where they differ."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights. For mixed precision keep float32 and set `trainer.precision`."""
    freeze_vision: bool = False
    """Keep the vision tower as it is; no gradient flows into it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    router_loss_coef: float = 0.0
    """Weight of the load-balancing loss of a mixture's routers; 0, as in both papers, is none."""


def load_processor(path: str) -> ProcessorMixin:
    """The processor that belongs to a network: tokenizer, image and video processor, template.

    Raises:
        FileNotFoundError: When the path leads nowhere; see `check_network`.
    """
    if path.startswith(_TINY):
        return build_tiny_processor(path.removeprefix(_TINY))
    if not Path(path).expanduser().is_dir():  # one that holds a processor alone will do
        check_network(path)
    return AutoProcessor.from_pretrained(path)


def check_same_tokens(one: str, other: str) -> None:
    """Refuse two networks that do not read the same prompts alike.

    Args:
        one: Path of a network.
        other: Path of another that is to score the same token ids behind the same pixels.

    Raises:
        ValueError: When a token has another id, or frames are cut into other patches.
    """
    ours, theirs = load_processor(one), load_processor(other)
    ids, others = ours.tokenizer.get_vocab(), theirs.tokenizer.get_vocab()
    differing = [
        token for token in sorted(ids.keys() | others.keys()) if ids.get(token) != others.get(token)
    ]
    if differing:
        token = differing[0]
        raise ValueError(
            f"'{one}' and '{other}' have different tokenizers: {len(differing)} tokens differ, e.g."
            f" {token!r} is {ids.get(token)} and {others.get(token)}; distributions over unequal "
            "ids cannot be compared, take a teacher of the student's family"
        )
    for name in ("patch_size", "merge_size", "temporal_patch_size", "image_mean", "image_std"):
        mine, its = (getattr(p.video_processor, name, None) for p in (ours, theirs))
        if mine != its:
            raise ValueError(
                f"'{one}' and '{other}' cut or scale frames differently ({name} {mine} and {its}); "
                "take a teacher of the student's family"
            )


def load_model(config: VLMConfig) -> PreTrainedModel:
    """The network itself, in training mode, its vision tower frozen if so configured.

    Weights come from safetensors only and no code of a checkpoint is run. A tiny network's weights
    come from torch's global random state, which `--seed_everything` sets.

    Raises:
        FileNotFoundError: When the path leads nowhere; see `check_network`.
        ValueError: For one of no family in `models/families`, that ZeRO-3 cannot load, or that has
            no routers to weigh a loss of.
    """
    if config.path.startswith(_TINY):
        model = build_tiny_model(config.path.removeprefix(_TINY))
        torch.nn.Module.to(model, dtype=_DTYPES[config.dtype])
    else:
        check_network(config.path)
        model = _from_checkpoint(config)
    if is_zero3_sharded(model):
        # Transformers keeps all renamings that there are for older checkpoints, used or not, and
        # would undo them on export: names that no checkpoint of these families has.
        vars(model).pop("_weight_conversions", None)
    family = family_of(model.config)
    model.set_attn_implementation(_stock_kernel(config.attn_implementation))
    family.prepare(model, config.attn_implementation)
    OneCallHead.convert(model.lm_head)
    if config.router_loss_coef and not any(isinstance(m, family.routers) for m in model.modules()):
        raise ValueError(
            f"policy.router_loss_coef {config.router_loss_coef}: '{config.path}' is no mixture of "
            "experts and has no routers; set 0"
        )
    model.model.shared_prefix = config.shared_prefix
    model.model.router_loss_coef = config.router_loss_coef
    family.tower(model.model).requires_grad_(not config.freeze_vision)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def copy_of_start(model: PreTrainedModel, config: VLMConfig) -> PreTrainedModel:
    """A network once more, before any training.

    Weights that ZeRO-3 has sharded cannot be copied, so they are loaded again.
    """
    return load_model(config) if is_zero3_sharded(model) else deepcopy(model)


def _from_checkpoint(config: VLMConfig) -> PreTrainedModel:
    try:
        return AutoModelForImageTextToText.from_pretrained(
            config.path,
            dtype=_DTYPES[config.dtype],
            attn_implementation=_stock_kernel(config.attn_implementation),
            use_safetensors=True,
        )
    except RuntimeError as error:
        if not is_deepspeed_zero3_enabled() or "size mismatch" not in str(error):
            raise
        raise ValueError(
            f"model path '{config.path}': transformers turns weights of this kind of checkpoint "
            "(experts) as it loads them, but not into ZeRO-3's shards; take FSDP2 "
            "(configs/cluster/gpu_8_fsdp2.yaml) or ZeRO-2"
        ) from error


def _stock_kernel(kernel: AttentionKernel) -> str:
    """What transformers is asked for: it refuses FlexAttention for these families."""
    return "sdpa" if kernel == "flex_attention" else kernel


def check_network(path: str) -> None:
    """See that a network is where its path says; of a hub's, `config.json` is fetched or cached.

    Raises:
        FileNotFoundError: When it is not; the message is one line and says what to name instead.
    """
    folder = Path(path).expanduser()
    if path.startswith(_TINY) or (folder / "config.json").is_file():
        return
    expected = "name a folder with a Hugging Face export, a hub id, or 'tiny/qwen3-vl'"
    if folder.is_dir():
        raise FileNotFoundError(f"folder '{path}' holds no network (no config.json); {expected}")
    # A hub id is one name behind another.
    if path.count("/") != 1 or path.startswith((".", "/", "~", "runs/")):
        raise FileNotFoundError(f"model path '{path}' does not exist; {expected}")
    try:
        hf_hub_download(path, "config.json")
    except (OSError, ValueError) as error:
        is_offline = "; HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else ""
        raise FileNotFoundError(
            f"model path '{path}' is no folder here, nor in the hub's cache, nor could it be "
            f"fetched ({type(error).__name__}{is_offline}); {expected}"
        ) from error
