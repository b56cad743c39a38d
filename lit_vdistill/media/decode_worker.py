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
from lit_vdistill.media.frames import Reading, Window
from lit_vdistill.media.pictures import Limits, read_image

ORDERS = {"auto": ("pyav", "decord"), "decord": ("decord", "pyav"), "pyav": ("pyav",)}
"""Which decoders are asked, one after the other, by `data.frames.decoder`."""


def read_video(
    path: str, num_frames: int, limits: Limits, decoder: str, window: Window | None = None
) -> tuple[Reading, str, list[str]]:
    """Frames and times, the library that read them, and why those before it did not.

    Raises:
        ValueError: When none can read the file; gives the reason of each.
    """
    reasons: list[str] = []
    for name in ORDERS[decoder]:
        try:
            return _ask(name, path, num_frames, limits, window), name, reasons
        except DamagedError:
            # The file's fault; another decoder would at best hide it.
            raise
        except Exception as error:
            reasons.append(f"{name}: {_short(error)}")
    raise ValueError("; ".join(reasons))


def _ask(name: str, path: str, num_frames: int, limits: Limits, window: Window | None) -> Reading:
    # Imported when asked: each library costs time, and may be broken without being needed.
    if name == "decord":
        from lit_vdistill.media.decord_frames import read_frames
    else:
        from lit_vdistill.media.pyav_frames import read_frames
    return read_frames(path, num_frames, limits, window)


def handle(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """Answer one request; a file that cannot be read gives `{"error": …}`."""
    path, limits = request["path"], Limits(request["factor"], request["max_pixels"])
    window = request.get("window")
    try:
        if not Path(path).is_file():
            raise ValueError("the file does not exist")
        if Path(path).stat().st_size == 0:
            raise ValueError("the file is empty")
        if request["kind"] == "image":
            reading, backend, reasons = Reading(read_image(path, limits), [0.0]), "pillow", []
        else:
            asked = (path, request["num_frames"], limits, request["decoder"], window)
            reading, backend, reasons = read_video(*asked)
    except Exception as error:
        return {"error": _short(error)}, None
    frames = np.ascontiguousarray(reading.frames)
    # A window's times begin with it, as if it had been cut out.
    times_s = [time - (window[0] if window else 0.0) for time in reading.times_s]
    header = {"shape": frames.shape, "times_s": times_s}
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
