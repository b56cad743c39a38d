"""The program of the decoder process, which `data/video.py` starts by its path.

Video libraries hang and crash on some files, so they run in a process of their own that its owner
can kill. It reads one JSON request a line from standard input and answers each with one JSON line,
followed by the raw frames when there are any. It imports neither torch nor the rest of the
package.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def plan_indices(total: int, num_frames: int) -> list[int]:
    """Evenly spaced frames from the first to the last; all of them when there are fewer."""
    if total <= num_frames:
        return list(range(total))
    return [round(i) for i in np.linspace(0, total - 1, num_frames)]


def fit_size(width: int, height: int, factor: int, max_pixels: int) -> tuple[int, int]:
    """The nearest multiples of `factor` within `max_pixels`, at least one each, ratio kept."""
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    step = round if scale == 1.0 else math.floor
    return tuple(max(1, step(side * scale / factor)) * factor for side in (width, height))  # type: ignore[return-value]


def decode_video(path: str, num_frames: int) -> tuple[np.ndarray, list[int], list[float], str]:
    """Frames, their indices, their true times and the library that read them.

    decord comes first; PyAV takes over where it fails.

    Raises:
        ValueError: When neither can read the file; gives both reasons.
    """
    try:
        return (*_decode_decord(path, num_frames), "decord")
    except Exception as first:
        try:
            return (*_decode_pyav(path, num_frames), "pyav")
        except Exception as second:
            raise ValueError(f"decord: {_short(first)}; pyav: {_short(second)}") from second


def _decode_decord(path: str, num_frames: int) -> tuple[np.ndarray, list[int], list[float]]:
    import decord

    # One thread: the reader lives and dies here, and other workers want the cores.
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    if len(reader) == 0:
        raise ValueError("no frames")
    indices = plan_indices(len(reader), num_frames)
    frames = reader.get_batch(indices).asnumpy()
    return frames, indices, [float(reader.get_frame_timestamp(i)[0]) for i in indices]


def _decode_pyav(path: str, num_frames: int) -> tuple[np.ndarray, list[int], list[float]]:
    import av

    with av.open(path) as container:
        times = [float(frame.time) for frame in container.decode(video=0) if frame.time is not None]
        if not times:
            raise ValueError("no frames")
        indices = plan_indices(len(times), num_frames)
        container.seek(0)
        wanted, frames = set(indices), []
        for i, frame in enumerate(container.decode(video=0)):
            if i in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
    return np.stack(frames), indices, [times[i] - times[0] for i in indices]


def decode_image(path: str) -> np.ndarray:
    """The pixels of an image, upright, `[1, height, width, 3]`.

    Raises:
        OSError: When it cannot be read.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[None]


def _resize(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    if (frames.shape[2], frames.shape[1]) == size:
        return frames
    resized = [Image.fromarray(f).resize(size, Image.Resampling.BICUBIC) for f in frames]
    return np.stack([np.asarray(image) for image in resized])


def handle(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """Answer one request; a file that cannot be read gives `{"error": …}`."""
    path, source_size = request["path"], None
    try:
        if not Path(path).is_file():
            raise ValueError("the file does not exist")
        if Path(path).stat().st_size == 0:
            raise ValueError("the file is empty")
        if request["kind"] == "image":
            frames, indices, times_s, backend = decode_image(path), [0], [0.0], "pillow"
        else:
            frames, indices, times_s, backend = decode_video(path, request["num_frames"])
        source_size = (frames.shape[2], frames.shape[1])
        size = fit_size(*source_size, request["factor"], request["max_pixels"])
        frames = np.ascontiguousarray(_resize(frames, size))
    except Exception as error:
        return {"error": _short(error)}, None
    header = {"shape": frames.shape, "indices": indices, "times_s": times_s, "backend": backend}
    return header | {"source_size": source_size}, frames


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
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}".removeprefix("ValueError: ")


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
