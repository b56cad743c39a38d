"""Rendering the embedded world to disk: `python -m lit_vdistill data world`."""

import json
import logging
import random
import shutil
from dataclasses import asdict
from pathlib import Path

from lit_vdistill.pool.store import PoolStore
from lit_vdistill.readers.records import write_records
from lit_vdistill.world.scenes import (
    WORLD_VERSION,
    WorldConfig,
    questions,
    render,
    scenes,
    write_video,
)
from lit_vdistill.world.simulated_teacher import simulate_pool

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
    described = {"version": WORLD_VERSION, **asdict(config)}
    marker = root / "world.json"
    if marker.is_file():
        if json.loads(marker.read_text()) == described:
            return
        raise ValueError(
            f"{root} holds an embedded world of another size, seed or version; remove the folder "
            "or name another data.sources.media_root"
        )
    if root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} is not empty and holds no embedded world; name another folder")
    logger.info("rendering the embedded world into %s", root)
    # Beside the target first: a run that is cut off leaves no half of a world behind.
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    pool = PoolStore(partial / "pool.jsonl")
    for split in ("train", "val", "test"):
        samples = []
        for scene in scenes(split, config):
            write_video(partial / f"videos/{scene.id}.mp4", render(scene, config), config.fps)
            asked = list(questions(scene, config, random.Random(f"{config.seed}/{scene.id}")))
            samples += asked
            if split == "train":
                pool.append(r for sample in asked for r in simulate_pool(sample, scene, config))
        write_records(partial / f"{split}.jsonl", samples)
    (partial / "world.json").write_text(json.dumps(described))
    if root.exists():
        root.rmdir()
    partial.rename(root)
