"""Which decoder reads true pictures at true times, how fast and in how much memory.

python -m experiments.decoders --folder runs/clips > table.md

Each clip of `experiments.clips`, three hours of small pictures and a few of 8K are read with decord
as it comes, and as `data.frames.decoder` has it with `decord` and with `pyav`: 16 frames, each time
in a fresh process. A reading is right when every picture tells the number that belongs to its time.
"""

import argparse
import importlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.clips import BITS, CLIPS, Clip, read_number, write_clip
from lit_vdistill.media.frames import FramePlan, Reading, evenly
from lit_vdistill.media.pictures import Limits

READERS = {"decord alone": "", "decord": "decord_frames", "pyav": "pyav_frames"}
NUM_FRAMES, TIMEOUT_S = 16, 120
_QUICK = {"preset": "ultrafast", "threads": "1"}
_SILENT = "scenecut=0:log-level=none"
_HOURS = Clip(
    "mp4", "libx264", 270_000, _QUICK | {"g": "25", "x264-params": _SILENT}, size=(64, 32)
)
LARGE: dict[str, Clip] = {
    "three hours, a key frame a second": _HOURS,
    "three hours, one key frame": replace(_HOURS, options=_HOURS.options | {"g": "1000000"}),
    "8K, 16 frames": Clip(
        "mp4", "libx264", 16, _QUICK | {"x264-params": _SILENT}, size=(7680, 4320)
    ),
}


def as_it_comes(path: str, limits: Limits) -> Reading:
    """Read with decord as its documentation has it: all frames at once, at their full size."""
    import decord
    from PIL import Image

    from lit_vdistill.media.pictures import fit_size

    reader = decord.VideoReader(path, num_threads=1)
    indices = evenly(range(len(reader)), NUM_FRAMES)
    frames = reader.get_batch(indices).asnumpy()
    size = fit_size(frames.shape[2], frames.shape[1], limits)
    small = [np.asarray(Image.fromarray(frame).resize(size)) for frame in frames]
    times_s = [float(reader.get_frame_timestamp(i)[0]) for i in indices]
    return Reading(np.stack(small), times_s, 0.0)


def judge(reading: Reading, clip: Clip) -> str:
    """`right`, or how many of the pictures are not those of their times."""
    known, wrong = np.array(clip.times_s()), 0
    for frame, time_s in zip(reading.frames, reading.times_s, strict=True):
        gaps = abs(known - known[0] - time_s)
        try:
            is_right = read_number(frame) == int(gaps.argmin()) % 2**BITS and gaps.min() < 0.003
        except ValueError:
            is_right = False
        wrong += not is_right
    return f"**{wrong} of {len(reading.frames)} wrong**" if wrong else "right"


def read(name: str, path: str, reader: str) -> dict[str, str | float]:
    """What a reader makes of a clip, in this process."""
    clip, limits = (CLIPS | LARGE)[name], Limits(1, 128 * 96)
    # The library is not what is measured.
    importlib.import_module("av" if reader == "pyav" else "decord")
    start = time.monotonic()
    try:
        if READERS[reader]:
            module = importlib.import_module(f"lit_vdistill.media.{READERS[reader]}")
            reading = module.read_frames(path, FramePlan(NUM_FRAMES), limits)
        else:
            reading = as_it_comes(path, limits)
        verdict = judge(reading, clip)
    except Exception as error:
        verdict = "refused" if isinstance(error, ValueError) else "error"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"verdict": verdict, "seconds": time.monotonic() - start, "peak_mib": peak}


def rows(folder: Path, clips: dict[str, Clip]) -> Iterator[str]:
    """A line of the table a clip."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in clips.items():
        path = folder / (name if name in CLIPS else f"{name.replace(' ', '_')}.mp4")
        if not path.exists():
            write_clip(path, clip)
        cells = [name]
        for reader in READERS:
            command = [sys.executable, "-m", "experiments.decoders", "--read", name, str(path)]
            try:
                done = subprocess.run(
                    [*command, reader], capture_output=True, timeout=TIMEOUT_S, check=False
                )
            except subprocess.TimeoutExpired:
                cells.append(f"no end in {TIMEOUT_S} s")
                continue
            cells.append(_cell(done.stdout, name in LARGE))
        yield f"| {' | '.join(cells)} |\n"


def _cell(output: bytes, is_large: bool) -> str:
    if not output:
        return "dies"
    told = json.loads(output)
    if told["verdict"] in ("refused", "error"):
        return told["verdict"]
    cost = f"{1000 * told['seconds']:.0f} ms"
    if is_large:
        cost = f"{told['seconds']:.1f} s, {told['peak_mib']:.0f} MiB"
    return f"{told['verdict']}, {cost}"


def main() -> None:
    """Print the table, or, for a process of its own, what one reader makes of one clip."""
    parser = argparse.ArgumentParser(prog="python -m experiments.decoders")
    parser.add_argument("--folder", type=Path, default=Path("runs/clips"))
    parser.add_argument("--read", nargs=3, metavar=("CLIP", "PATH", "READER"))
    args = parser.parse_args()
    if args.read:
        sys.stdout.write(json.dumps(read(*args.read)))
        return
    names = [f"`{name}`" if module else name for name, module in READERS.items()]
    sys.stdout.write(f"| clip | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}\n")
    for row in rows(args.folder, CLIPS | LARGE):
        sys.stdout.write(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
