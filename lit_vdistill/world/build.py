"""Rendering the embedded world to disk: `python -m lit_vdistill data world`."""

import json
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

from filelock import FileLock

from lit_vdistill.pool.store import PoolStore
from lit_vdistill.readers.records import write_records
from lit_vdistill.types import TeacherResponse, VideoSample
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.questions import questions
from lit_vdistill.world.scenes import FPS, Scene, Split, render, scenes, write_video
from lit_vdistill.world.simulated_teacher import SimulatedTeacher

WORLD_VERSION = 3
FILE_SCALE = 2
"""Pixels of a file along a pixel of the frame: decord cannot read videos so narrow as a frame."""
MANY = 64
"""Scenes from which on starting processes pays."""
Made = TypeVar("Made")
logger = logging.getLogger(__name__)


def build_world(root: str | Path, config: WorldConfig) -> None:
    """Write videos, records (`train`, `val`, `test.jsonl`) and the simulated pool (`pool.jsonl`).

    A folder that holds this very world is left alone; one that holds another is an error, as
    training data must not change under a run.

    Args:
        root: Folder to write to.
        config: Size and seed of the world.

    Raises:
        ValueError: When the folder holds something else.
    """
    root = Path(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    # Whoever comes second waits, and finds the world there.
    with FileLock(root.with_name(root.name + ".lock")):
        _build(root, config)


def _build(root: Path, config: WorldConfig) -> None:
    described = {"version": WORLD_VERSION, **asdict(config)}
    marker = root / "world.json"
    if marker.is_file():
        if json.loads(marker.read_text()) == described:
            return
        raise ValueError(
            f"{root} holds an embedded world of another size, seed, teacher or version; remove the "
            "folder or name another data.sources.media_root"
        )
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} is not empty and holds no embedded world; name another folder")
    logger.info("rendering the embedded world into %s", root)
    # Beside the target first: a run that is cut off leaves no half of a world behind.
    unfinished = root.with_name(root.name + ".partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    for split in get_args(Split):
        count = config.teacher.pool_size if split == "train" else 0
        made = list(_each(partial(_write, unfinished, config, count), scenes(split, config)))
        write_records(unfinished / f"{split}.jsonl", [s for asked, _ in made for s in asked])
        if count:
            PoolStore(unfinished / "pool.jsonl").append(r for _, pool in made for r in pool)
    (unfinished / "world.json").write_text(json.dumps(described))
    if root.exists():
        root.rmdir()
    unfinished.rename(root)


def _write(
    root: Path, config: WorldConfig, pool_size: int, scene: Scene
) -> tuple[list[VideoSample], list[TeacherResponse]]:
    """Render a scene; the questions about it and the teacher's responses to them."""
    write_video(root / f"videos/{scene.id}.mp4", render(scene), FPS, scale=FILE_SCALE)
    asked, teacher = questions(scene, config), SimulatedTeacher(config)
    return asked, [r for sample in asked for r in teacher.respond(sample, scene, pool_size)]


def _each(function: Callable[[Scene], Made], found: Iterable[Scene]) -> Iterator[Made]:
    """A function of every scene, in order; of many on all processors."""
    todo = list(found)
    if len(todo) < MANY:
        yield from map(function, todo)
        return
    # Started afresh: a process that holds torch's threads must not be forked.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as workers:
        yield from workers.map(function, todo, chunksize=16)
