"""Two slow spots of the Qwen-VL towers, computed otherwise with the same result.

Their patch embedding is a convolution whose windows do not overlap: a matrix product, for which
convolution kernels are slow (most of a small tower's backward pass on CPU). And SDPA is called by
transformers once a frame, where all frames of a video can be one batch.
"""

from itertools import groupby
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

_BATCHED = "batched_frames_called_as_flash"
"""Transformers hands all frames over in one call to names that contain `flash`."""


def speed_up_tower(model: PreTrainedModel, tower: Any) -> None:
    """Replace both, in place; names, shapes and values of the weights stay."""
    embed = tower.patch_embed
    embed.proj = _PatchProjection.of(embed.proj)
    if model.config.vision_config._attn_implementation == "sdpa":
        model.set_attn_implementation({"vision_config": _BATCHED})


class _PatchProjection(nn.Conv3d):
    """A convolution over exactly one window a patch, as a matrix product."""

    @classmethod
    def of(cls, convolution: nn.Conv3d) -> "_PatchProjection":
        time, height, width = convolution.kernel_size
        shape = (time, height, width)
        projection = cls(
            convolution.in_channels, convolution.out_channels, shape, shape,
            bias=convolution.bias is not None, device="meta",
        )  # fmt: skip
        projection.weight, projection.bias = convolution.weight, convolution.bias
        return projection

    def forward(self, input: Float[Tensor, "patches colours t y x"]) -> Tensor:
        weight = self.weight.flatten(1)
        return linear(input.flatten(1), weight, self.bias)[..., None, None, None]


def _batched_frames(
    module: nn.Module,
    query: Float[Tensor, "1 heads seq dim"],
    key: Float[Tensor, "1 heads seq dim"],
    value: Float[Tensor, "1 heads seq dim"],
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: Tensor,
    **others: Any,
) -> tuple[Float[Tensor, "1 seq heads dim"], None]:
    """Each frame, or window of one, sees itself; neighbours of one size are one batch."""
    runs = [(size, len(list(run))) for size, run in groupby(cu_seq_lens_q.diff().tolist())]
    by_run = zip(
        *(state.split([n * size for size, n in runs], dim=2) for state in (query, key, value)),
        strict=True,
    )
    by_frame = "1 heads (frames seq) dim -> frames heads seq dim"
    outputs = [
        scaled_dot_product_attention(
            *(rearrange(state, by_frame, frames=n) for state in states), scale=scaling
        )
        for (_, n), states in zip(runs, by_run, strict=True)
    ]
    flat = [rearrange(out, "frames heads seq dim -> 1 (frames seq) heads dim") for out in outputs]
    return torch.cat(flat, dim=1), None


AttentionInterface.register(_BATCHED, _batched_frames)
