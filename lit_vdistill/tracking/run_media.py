"""The records and media that a training run learnt from, found by its config."""

import math
from pathlib import Path
from typing import Any

from lit_vdistill.readers.records import read_records
from lit_vdistill.tracking.frame_source import FrameSource
from lit_vdistill.tracking.run_folder import TrainingRun, read_object
from lit_vdistill.types import Envelope, VideoSample

Records = dict[Path, dict[str, VideoSample]]
"""By file and id: what has been read already."""


class RunMedia:
    """What is needed to show a question of a run on its frames."""

    def __init__(self, run: TrainingRun, known: Records) -> None:
        """Read the records; what is in the way stands in `problem`.

        Args:
            run: Whose config names them.
            known: Files that runs share are read once.
        """
        self.samples: dict[str, VideoSample] = {}
        """By id, boxes as shares of width and height."""
        self.source: FrameSource | None = None
        self.envelope: Envelope = "strict"
        self.problem = ""
        try:
            self._read(run, known)
        except (OSError, ValueError) as error:
            self.problem = f"No frames of {run.name}: {error}"

    def _read(self, run: TrainingRun, known: Records) -> None:
        where = run.folder / "config.yaml"
        data = _part(run.config, "data")
        data = _part(data, "init_args") or data
        sources, prompt = _part(data, "sources"), _part(data, "prompt")
        self.envelope = "lenient" if prompt.get("envelope") == "lenient" else "strict"
        root, named = sources.get("media_root"), sources.get("train_path")
        parts = named if isinstance(named, list) else [{"path": named}]
        found = [part.get("path") if isinstance(part, dict) else part for part in parts]
        files = [path for path in found if isinstance(path, str)]
        if not isinstance(root, str) or not files or len(files) < len(found):
            raise ValueError(
                f"{where}: expected paths under data.sources.media_root and train_path, got "
                f"{root!r:.80} and {named!r:.80}"
            )
        above = _started_in(run)
        frames = {**_part(data, "frames"), "factor": _factor(run.folder / "student")}
        settings = {"frames": frames, "prompt": prompt, "data_root": str(above / root)}
        self.source = FrameSource(settings, where)
        for file in files:
            path = above / file
            if path not in known:
                known[path] = {sample.id: sample for sample in read_records(path)[0]}
            self.samples |= known[path]


def _part(tree: Any, name: str) -> dict[str, Any]:
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def _started_in(run: TrainingRun) -> Path:
    """The folder in which the command of a run was given: paths of its config are relative to it.

    Found by the run's own folder; where that was moved it is the present one.
    """
    parts, tail = run.folder.absolute().parts, Path(str(run.config.get("run_dir"))).parts
    return Path(*parts[: -len(tail)]) if parts[-len(tail) :] == tail else Path()


def _factor(student: Path) -> int | None:
    """Pixels that sides of frames are multiples of, by the exported student; None = not known."""
    path = student / "processor_config.json"
    if not path.is_file():
        return None
    images = _part(read_object(path), "image_processor")
    sides = [images.get(name) for name in ("patch_size", "merge_size")]
    if not all(isinstance(side, int) and side > 0 for side in sides):
        return None
    return math.prod(side for side in sides if side)
