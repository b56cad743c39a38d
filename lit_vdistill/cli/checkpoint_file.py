"""Checkpoints that are whole: written beside their place and renamed, checked before use."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


class CheckpointError(ValueError):
    """A checkpoint file that must not be gone on from; the message says why, in one line."""


class WholeFileIO(TorchCheckpointIO):
    """One file a checkpoint, complete or not there.

    Lightning writes to the folder for temporary files and moves what is there; to another file
    system that is a copy, and a process that is killed, or a disk that fills, leaves half of it in
    place of the last good one. And torch reads a file with flipped bits without a word, though it
    has written the sums that show them.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write, force to the disk, and rename: at each moment the old file or the new one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.tmp")
        try:
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = lambda storage, loc: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a file whose checksums hold.

        Raises:
            FileNotFoundError: When it is not there.
            CheckpointError: When it is cut off, or its bytes have changed since it was written.
        """
        if Path(path).is_file():
            _check(Path(path))
        return super().load_checkpoint(path, map_location, weights_only)


def _check(path: Path) -> None:
    advice = "go on from another checkpoint of the run, or begin anew"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"ckpt_path {path} is no whole checkpoint ({error}); {advice}"
        ) from error
    if damaged is not None:
        raise CheckpointError(f"ckpt_path {path} is damaged (in {damaged}); {advice}")
