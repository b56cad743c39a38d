"""How all completions of a prompt go on from one copy of it.

Transformers calls the attention functions that are registered here for the language model of every
network that `enable_plans` has been given. Without a plan they are the stock ones. With a plan,
which the forward call hands down as `attention_plan=`, the plan says who looks at whom:

    TwoPassAttention   SDPA: prompts causally, then completions over prompt and self
    VarlenAttention    the same two passes by FlashAttention's kernel for unequal lengths
    BlockAttention     FlexAttention with a block mask; keys are never copied

None of them (`models/plans/`) builds an L x L mask. Layers that keep a state instead of keys and
values ask the same plan whose state goes on (`models/plans/states.py`). The rollout engine's cache
is a plan too (`rollouts/shared_cache.py`).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.flash_attention import flash_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask, sdpa_mask

from lit_vdistill.models.plans.block import BlockAttention
from lit_vdistill.models.plans.groups import PrefixGroup
from lit_vdistill.models.plans.states import Recurrence, SharedStates, can_pack
from lit_vdistill.models.plans.two_pass import TwoPassAttention
from lit_vdistill.models.plans.varlen import VarlenAttention

AttentionKernel = Literal["sdpa", "flash_attention_2", "flex_attention"]
_PREFIX = "planned_"


@runtime_checkable
class Attention(Protocol):
    """Who looks at whom."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Tensor:
        """See `AttentionPlan`."""
        ...


@runtime_checkable
class AttentionPlan(Protocol):
    """Who looks at whom in one forward pass, and whose state goes on."""

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "batch heads seq dim"],
        key: Float[Tensor, "batch kv_heads seq dim"],
        value: Float[Tensor, "batch kv_heads seq dim"],
        scaling: float,
    ) -> Float[Tensor, "batch seq heads dim"]:
        """Attention of one layer; `scaling` multiplies the scores."""
        ...

    def carry(
        self, layer: int, inputs: Float[Tensor, "batch seq channels"], recurrence: Recurrence
    ) -> Float[Tensor, "batch seq heads dim"]:
        """What the tokens read in one recurrent layer."""
        ...


class PackedPlan:
    """One flat sequence, in which completions see their prompt and themselves."""

    def __init__(
        self, attention: Attention, groups: Sequence[PrefixGroup], device: torch.device
    ) -> None:
        """Say by which kernel; `device` is the tokens'."""
        self.attend = attention.attend
        self._groups, self._device = groups, device

    @cached_property
    def states(self) -> SharedStates:
        """Prepared where a layer asks for it first."""
        return SharedStates(self._groups, self._device, is_packed=can_pack(self._device))

    def carry(self, layer: int, inputs: Tensor, recurrence: Recurrence) -> Tensor:
        """See `AttentionPlan`."""
        return self.states.carry(inputs, recurrence)


def enable_plans(model: PreTrainedModel, kernel: AttentionKernel) -> None:
    """Let a network's language model take attention plans; its vision tower stays as it is."""
    model.set_attn_implementation({"text_config": _PREFIX + kernel})


def kernel_of(backbone: Any) -> AttentionKernel:
    """The kernel that a network was given by `enable_plans`.

    Raises:
        ValueError: For a network that was not.
    """
    name = backbone.config.get_text_config()._attn_implementation
    if not name.startswith(_PREFIX):
        raise ValueError(
            f"this network's attention is '{name}', which cannot share prompts; load it by "
            "lit_vdistill.models.vlm.load_model, or call enable_plans(model, 'sdpa')"
        )
    return name.removeprefix(_PREFIX)


def packed_plan(
    kernel: AttentionKernel, groups: Sequence[PrefixGroup], device: torch.device
) -> AttentionPlan:
    """The plan by which completions see their prompt and themselves, and go on from its state."""
    if kernel == "flash_attention_2":
        from flash_attn import flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

        attention = VarlenAttention(groups, device, flash_attn_varlen_func)
    elif kernel == "flex_attention":
        attention = BlockAttention(groups, device)
    else:
        attention = TwoPassAttention(groups, device)
    return PackedPlan(attention, groups, device)


def _planned(stock: Callable[..., Any]) -> Callable[..., Any]:
    """An attention function for transformers: by the plan where there is one, else as ever."""

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float,
        attention_plan: AttentionPlan | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        if attention_plan is None:
            output, _ = stock(module, query, key, value, attention_mask, scaling=scaling, **others)
            return output, None
        layer = module.layer_idx
        assert isinstance(layer, int)
        states = _of_one_type(query, key, value)
        return attention_plan.attend(layer, *states, scaling), None

    return attention


def _of_one_type(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three in the type that the layer's matrix products have, which its output then has too.

    Under autocast, norms and rotary embeddings turn queries and keys into float32, beside bfloat16
    values. FlashAttention's kernel refuses float32, and no plan should move twice the bytes. Values
    come straight from a projection, so without autocast theirs is the weights' type.
    """
    device = query.device.type
    is_mixed = torch.is_autocast_enabled(device) and value.dtype != torch.float64
    dtype = torch.get_autocast_dtype(device) if is_mixed else value.dtype
    return query.to(dtype), key.to(dtype), value.to(dtype)


AttentionInterface.register(_PREFIX + "sdpa", _planned(sdpa_attention_forward))
AttentionMaskInterface.register(_PREFIX + "sdpa", sdpa_mask)
AttentionInterface.register(_PREFIX + "flash_attention_2", _planned(flash_attention_forward))
AttentionMaskInterface.register(_PREFIX + "flash_attention_2", flash_attention_mask)
# Transformers refuses FlexAttention for these networks by name; without a plan SDPA serves.
AttentionInterface.register(_PREFIX + "flex_attention", _planned(sdpa_attention_forward))
AttentionMaskInterface.register(_PREFIX + "flex_attention", sdpa_mask)
