"""Gated delta nets (arXiv:2412.06464) that go on from the state behind a shared prompt."""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu, softplus
from transformers.models.qwen3_5 import modeling_qwen3_5 as stock
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5GatedDeltaNet
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeGatedDeltaNet

from lit_vdistill.models.plans.states import LayerState, Packing
from lit_vdistill.models.shared_prefix import AttentionPlan
from lit_vdistill.objectives.precision import widened

_CHUNK = 64
"""Tokens that the chunked rule takes at a time, at the most."""
_CHUNK_STEP = 16


class DepthwiseConv(nn.Conv1d):
    """A causal depthwise convolution as a sum of shifted products, tokens before channels.

    Kernels for it are slow on CPU, and padding on the left is its history here. As the head's
    (`models/head.py`), its call is a collective where weights are sharded: there is one a layer,
    however many batches of rows there are, and with a plan or without.
    """

    def forward(self, input: Tensor, within: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The stock convolution, or what `within` makes of the input while the weight is there."""
        return super().forward(input) if within is None else within(input)

    def padded(
        self,
        inputs: Float[Tensor, "rows seq channels"],
        lengths: Int[Tensor, " rows"] | None,
        before: Float[Tensor, "rows history channels"] | None,
    ) -> tuple[Float[Tensor, "rows seq channels"], Float[Tensor, "rows history channels"]]:
        """Outputs of rows behind what came before, zeros if None, and what each has read last."""
        rows, width, channels = inputs.shape
        history = self.kernel_size[0] - 1
        if before is None:
            before = inputs.new_zeros(rows, history, channels)
        whole = torch.cat([before.to(inputs.dtype), inputs], dim=1)
        ends = torch.full((rows,), width, device=inputs.device) if lengths is None else lengths
        last = ends[:, None] + torch.arange(history, device=inputs.device)
        return self._convolve(whole), whole.gather(1, last[..., None].expand(-1, -1, channels))

    def packed(
        self,
        inputs: Float[Tensor, "1 seq channels"],
        rows: Packing,
        before: Float[Tensor, "rows history channels"] | None,
    ) -> tuple[Float[Tensor, "1 seq channels"], Float[Tensor, "rows history channels"]]:
        """The same of rows one behind another.

        Each has its history before it in one long sequence; what reads across rows is dropped.
        """
        history, starts = self.kernel_size[0] - 1, rows.bounds[:-1]
        count = torch.arange(len(starts), device=inputs.device)
        steps = torch.arange(history, device=inputs.device)
        placed = torch.arange(inputs.shape[1], device=inputs.device) + history * rows.row_of
        whole = inputs.new_zeros(inputs.shape[1] + history * len(starts), inputs.shape[2])
        whole = whole.index_copy(0, placed + history, inputs[0])
        if before is not None:
            firsts = (starts + history * count)[:, None] + steps
            whole = whole.index_copy(0, firsts.flatten(), before.to(inputs.dtype).flatten(0, 1))
        lasts = (rows.bounds[1:] + history * count)[:, None] + steps
        return self._convolve(whole[None]).index_select(1, placed), whole[lasts]

    def _convolve(self, input: Float[Tensor, "rows history_and_seq channels"]) -> Tensor:
        """Outputs of all tokens that have a whole history."""
        size = input.shape[1] - self.kernel_size[0] + 1
        taps = self.weight[:, 0].unbind(dim=1)
        shifted = [input[:, i : i + size] * tap for i, tap in enumerate(taps)]
        return torch.stack(shifted).sum(dim=0)


class SharedDeltaNet(Qwen3_5GatedDeltaNet):
    """A gated delta net whose tokens go on from where a plan says.

    Without a plan it is the stock one, a sequence a row.
    """

    def forward(
        self, hidden_states: Float[Tensor, "batch seq hidden"], *args: Any,
        attention_plan: AttentionPlan | None = None, **others: Any,
    ) -> Float[Tensor, "batch seq hidden"]:  # fmt: skip
        """By the plan where there is one."""
        stock_forward = super().forward

        def work(states: Tensor) -> Tensor:
            if attention_plan is None:
                return stock_forward(states, *args, **others)
            return self._by_plan(states, attention_plan)

        return self.conv1d(hidden_states, within=work)

    def _by_plan(self, states: Tensor, plan: AttentionPlan) -> Tensor:
        # In the stock layer's order: processes with plans and without gather the same weights.
        qkv, gate = self.in_proj_qkv(states), self.in_proj_z(states)
        projected = torch.cat([qkv, self.in_proj_b(states), self.in_proj_a(states)], dim=-1)
        read = plan.carry(cast(int, self.layer_idx), projected, self.recur)
        normed = self.norm(read.flatten(0, -2), gate.reshape(read.shape).flatten(0, -2))
        return self.out_proj(normed.view(*states.shape[:-1], -1))

    def recur(
        self,
        inputs: Float[Tensor, "rows seq channels"],
        lengths: Int[Tensor, " rows"] | Packing | None,
        state: LayerState | None,
        *,
        keeps_state: bool,
    ) -> tuple[Float[Tensor, "rows seq heads dim"], LayerState | None]:
        """See `Recurrence`: convolution, then the delta rule."""
        heads = (self.conv_dim, self.num_v_heads, self.num_v_heads)
        mixed, b, a = inputs.split(heads, dim=-1)
        conv = cast(DepthwiseConv, self.conv1d)
        before = None if state is None else state.inputs
        if isinstance(lengths, Packing):
            convolved, tail = conv.packed(mixed, lengths, before)
        else:
            convolved, tail = conv.padded(mixed, lengths, before)
        convolved = silu(convolved)
        query, key, value = convolved.split((self.key_dim, self.key_dim, self.value_dim), dim=-1)
        # As the stock layer, at least in float32: A could be infinite.
        decay = -widened(self.A_log).exp() * softplus(widened(a) + self.dt_bias)
        strength = b.sigmoid()
        if isinstance(lengths, Tensor):
            # What neither writes nor decays leaves the state as it is: padding is not read.
            is_real = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
            decay, strength = decay * is_real[..., None], strength * is_real[..., None]
        read, memory = self._rule(
            query.unflatten(-1, (-1, self.head_k_dim)), key.unflatten(-1, (-1, self.head_k_dim)),
            value.unflatten(-1, (-1, self.head_v_dim)), decay, strength,
            None if state is None else state.memory, keeps_state,
            lengths.bounds if isinstance(lengths, Packing) else None,
        )  # fmt: skip
        return read, None if memory is None else LayerState(tail, memory)

    def _rule(
        self, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, strength: Tensor,
        memory: Tensor | None, keeps_state: bool, bounds: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        width = query.shape[1]
        if width == 1 and bounds is None:
            return stock.torch_recurrent_gated_delta_rule(
                query, key, value, g=decay, beta=strength, initial_state=memory,
                output_final_state=keeps_state, use_qk_l2norm_in_kernel=True,
            )  # fmt: skip
        # The reference pads to whole chunks; a kernel has a size of its own.
        short = {} if query.is_cuda else {"chunk_size": _chunk_of(width)}
        short = short if bounds is None else {"cu_seqlens": bounds}
        return stock.torch_chunk_gated_delta_rule(
            query, key, value, g=decay, beta=strength, initial_state=memory,
            output_final_state=keeps_state, use_qk_l2norm_in_kernel=True, **short,
        )  # fmt: skip


def share_states(layer: Qwen3_5GatedDeltaNet | Qwen3_5MoeGatedDeltaNet) -> None:
    """Let a stock gated delta net take plans, in place; weights, names and hooks stay.

    Beside experts it is another class of the same arithmetic.
    """
    parts: Any = layer, layer.conv1d
    parts[0].__class__, parts[1].__class__ = SharedDeltaNet, DepthwiseConv


def _chunk_of(width: int) -> int:
    """Tokens that the chunked rule takes at a time, so that few are padding."""
    return min(_CHUNK, -(-width // _CHUNK_STEP) * _CHUNK_STEP)
