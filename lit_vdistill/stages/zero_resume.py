"""DeepSpeed checkpoints belong to a number of processes; said before it fails in its own words."""

import re
from pathlib import Path
from typing import Any

_SHARD = re.compile(r"zero_pp_rank_(\d+)_mp_rank_\d+_optim_states\.pt")


def check_zero_checkpoint(
    path: str | Path | None, num_processes: int, config: dict[str, Any]
) -> None:
    """Refuse a checkpoint that other processes' optimizer shards are in.

    DeepSpeed's universal checkpoints do not help: read with DeepSpeed 0.19.8 on another number of
    processes, runs went on without an error from other losses and weights. Why is not known.

    Args:
        path: The folder that a run resumes from, if any.
        num_processes: Of that run.
        config: DeepSpeed's own.

    Raises:
        ValueError: When it was written on another number of processes, or is universal.
    """
    if path is None or not Path(path, "checkpoint").is_dir():
        return
    names = [_SHARD.search(file.name) for file in Path(path, "checkpoint").iterdir()]
    then = len({name.group(1) for name in names if name})
    if then not in (0, num_processes) or config.get("checkpoint", {}).get("load_universal"):
        raise ValueError(
            f"checkpoint {path} was written by DeepSpeed on {then} processes and resumes on as "
            f"many, without load_universal; got {num_processes}. For another number train by FSDP2 "
            "(configs/cluster/gpu_8_fsdp2.yaml), or start anew from its weights: python "
            f"{path}/zero_to_fp32.py {path} OUT --safe_serialization"
        )
