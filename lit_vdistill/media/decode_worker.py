"""The program of the decoder process, which `decoder_process` starts.

Video libraries hang and crash on some files, so they run in a process of their own that its owner
can kill. It reads one JSON request a line from standard input and answers each with one JSON line,
followed by the raw frames when there are any. It does not import torch.
"""

import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lit_vdistill.media.containers import DamagedError
from lit_vdistill.media.frames import FramePlan, Reading
from lit_vdistill.media.pictures import Limits, read_image

ORDERS = {"auto": ("pyav", "decord"), "decord": ("decord", "pyav"), "pyav": ("pyav",)}
"""Which decoders are asked, one after the other, by `data.frames.decoder`."""


def read_video(
    path: str, plan: FramePlan, limits: Limits, decoder: str
) -> tuple[Reading, str, list[str]]:
    """Frames and times, the library that read them, and why those before it did not.

    Raises:
        ValueError: When none can read the file; gives the reason of each.
    """
    reasons: list[str] = []
    for name in ORDERS[decoder]:
        try:
            return _ask(name, path, plan, limits), name, reasons
        except DamagedError:
            # The file's fault; another decoder would at best hide it.
            raise
        except Exception as error:
            reasons.append(f"{name}: {_short(error)}")
    raise ValueError("; ".join(reasons))


def _ask(name: str, path: str, plan: FramePlan, limits: Limits) -> Reading:
    # Imported when asked: each library costs time, and may be broken without being needed.
    if name == "decord":
        from lit_vdistill.media.decord_frames import read_frames
    else:
        from lit_vdistill.media.pyav_frames import read_frames
    return read_frames(path, plan, limits)


def handle(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """Answer one request; a file that cannot be read gives `{"error": …}`."""
    path, limits = request["path"], Limits(*request["limits"])
    plan = None if request["plan"] is None else FramePlan(*request["plan"])
    try:
        if not Path(path).is_file():
            raise ValueError("the file does not exist")
        if Path(path).stat().st_size == 0:
            raise ValueError("the file is empty")
        if plan is None:
            reading, backend, reasons = Reading(read_image(path, limits), [0.0], 0.0), "pillow", []
        else:
            reading, backend, reasons = read_video(path, plan, limits, request["decoder"])
    except Exception as error:
        return {"error": _short(error)}, None
    frames = np.ascontiguousarray(reading.frames)
    header = {"shape": frames.shape, "times_s": reading.times_s, "length_s": reading.length_s}
    return header | {"backend": backend, "reasons": reasons}, frames


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until standard input closes."""
    for line in requests:
        header, frames = handle(json.loads(line))
        answers.write(json.dumps(header).encode() + b"\n")
        if frames is not None:
            answers.write(frames.tobytes())
        answers.flush()


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0][:300] if lines else ''}"
