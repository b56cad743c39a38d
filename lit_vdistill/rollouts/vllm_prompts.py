"""A prompt as vLLM's tokens-in-tokens-out interface takes it: its very ids and pixels."""

import base64
import hashlib
from collections import defaultdict
from typing import Any, cast

import msgpack
import torch
from torch import Tensor

from lit_vdistill.models.families import family_of
from lit_vdistill.models.families.family import ServedMedium
from lit_vdistill.models.prompt import EncodedPrompt

_RAW = 3
"""vLLM's extension type of msgpack for the bytes of a tensor."""


def served_prompt(
    config: Any, prompt: EncodedPrompt, dtype: torch.dtype, version: str
) -> dict[str, Any]:
    """What a request says of a prompt.

    What the server keeps of it, of prefixes and of media, is kept under the version of the weights:
    nothing that older ones have made can be found by it.

    Args:
        config: Of the network.
        prompt: With its pixels, where it has a medium.
        dtype: Of the served tower, which would make its pixels that.
        version: Label of the weights.
    """
    request: dict[str, Any] = {"token_ids": prompt.input_ids.tolist(), "cache_salt": version}
    if prompt.kind == "text":
        return request
    if prompt.pixels is None:
        raise ValueError(f"sample {prompt.sample_id}: its pixels are gone before it was sampled")
    hashes, places, values = defaultdict(list), defaultdict(list), defaultdict(list)
    for medium in family_of(config).served_media(config, prompt):
        item = _packed(medium, dtype)
        hashes[medium.modality].append(hashlib.sha256(version.encode() + item).hexdigest())
        places[medium.modality].append({"offset": medium.first, "length": medium.count})
        values[medium.modality].append(base64.b64encode(item).decode("ascii"))
    features = {"mm_hashes": hashes, "mm_placeholders": places, "kwargs_data": values}
    return request | {"features": {key: dict(of) for key, of in features.items()}}


def _packed(medium: ServedMedium, dtype: torch.dtype) -> bytes:
    """A medium as vLLM's `v1/serial_utils.py` reads it."""
    pixels = medium.pixels.to(dtype)
    whole = {"keep_on_cpu": False, "slices": [[0, len(pixels), None]], "dim": 0}
    item = {medium.pixels_name: {"data": _tensor(pixels), "field": ["flat", whole]}}
    item |= {
        name: {"data": _tensor(value), "field": ["batched", {"keep_on_cpu": True}]}
        for name, value in medium.facts.items()
    }
    return cast(bytes, msgpack.packb(item))


def _tensor(value: Tensor) -> list[Any]:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    name = str(value.dtype).removeprefix("torch.")
    return [name, list(value.shape), msgpack.ExtType(_RAW, raw)]
