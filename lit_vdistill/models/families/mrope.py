"""M-RoPE positions of a prompt, as Qwen2-VL defines them (arXiv:2409.12191 §2.1)."""

from itertools import groupby

import torch
from jaxtyping import Int
from torch import Tensor


def mrope_positions(
    token_types: Int[Tensor, " seq"],
    grid_thw: Int[Tensor, "media 3"],
    merge_size: int,
    pace: float = 1.0,
) -> Int[Tensor, "3 seq"]:
    """Positions along time, height and width; text has one for all three.

    What follows a medium goes on behind its largest position, its times included, as the paper and
    Qwen's own code of Qwen2.5-VL have it and as its checkpoints were trained. Transformers from 5.3
    on goes on behind the larger side of a frame, which is another place where a video's times reach
    further (huggingface/transformers#45381); before 5.24 it also cuts a video's seconds to whole
    ones.

    Args:
        token_types: 0 for text; what is not 0 is a feature of the next temporal patches. Qwen3-VL
            writes text between those of a video, Qwen2.5-VL does not.
        grid_thw: Patches of each medium along time, height and width.
        merge_size: Patches a token along height, and along width.
        pace: Positions from one temporal patch of a video to the next, rounded down where they
            add up: seconds of a patch times Qwen2.5-VL's `tokens_per_second`.
    """
    device = token_types.device
    grids = [(t, h // merge_size, w // merge_size) for t, h, w in grid_thw.tolist()]
    frames = iter([(height, width) for t, height, width in grids for _ in range(t)])
    runs: list[Tensor] = []
    start = 0
    for kind, run in groupby(token_types.tolist()):
        length = len(list(run))
        if kind == 0:
            runs.append(torch.arange(length, device=device).expand(3, -1) + start)
        else:
            height, width = next(frames)
            count = length // (height * width)
            for _ in range(count - 1):
                next(frames)
            times = (torch.arange(count, device=device) * pace).long()
            sides = torch.arange(height, device=device), torch.arange(width, device=device)
            axes = torch.meshgrid(times, *sides, indexing="ij")
            runs.append(torch.stack(axes).flatten(1) + start)
        start = int(runs[-1].max()) + 1
    return torch.cat(runs, dim=1)
