"""A run's folder belongs to one run: nothing in it is overwritten by mistake, or by two at once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

_RESULTS = ("checkpoints", "student", "summary.json")
"""What takes a run's time to make, in its folder."""
_FOUND_OUT = ("validate.json", "validate.jsonl", "test.json", "test.jsonl", "predictions.jsonl")
"""What other commands say of it there."""
_held: list[BaseFileLock] = []


class RunFolderError(ValueError):
    """A folder that this run must not write into; the message says what to do instead."""


@contextmanager
def claims() -> Iterator[None]:
    """Folders that are claimed within are free again behind it, however it ends."""
    try:
        yield
    finally:
        while _held:
            _held.pop().release()


def claim(folder: Path, ckpt_path: str | None, *, overwrite: bool) -> None:
    """Take a folder for a run, until `claims` ends or the process does.

    Args:
        folder: The run's folder; it need not exist.
        ckpt_path: The checkpoint that the run goes on from: one from this folder goes on in it.
        overwrite: Whether what an earlier run has made may be deleted.

    Raises:
        RunFolderError: When a run is writing into the folder, or an earlier one has and this one
            does not go on from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunFolderError(
            f"run_dir {folder}: another run is writing into it; wait for it, or name another "
            "folder (--run_dir)"
        ) from error
    _held.append(lock)
    goes_on = ckpt_path is not None and Path(ckpt_path).resolve().is_relative_to(folder.resolve())
    if goes_on or not _left_by_a_run(folder):
        return
    if not overwrite:
        last = folder / "checkpoints" / "last.ckpt"
        more = f"go on with it (--ckpt_path {last}), " if last.exists() else ""
        raise RunFolderError(
            f"run_dir {folder} holds a run: {more}name another folder (--run_dir), or let this run "
            "replace it (--overwrite)"
        )
    # All that an interrupted new run would else be taken to have made.
    for name in (*_RESULTS, *_FOUND_OUT):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def _left_by_a_run(folder: Path) -> bool:
    """Whether there is what took time to make; a run that was refused at its start leaves none."""
    found = [folder / name for name in _RESULTS]
    return any(any(path.iterdir()) if path.is_dir() else path.exists() for path in found)
