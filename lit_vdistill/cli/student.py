"""Another student for a recipe: a config file that names one gives all stages' folders its name."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_vdistill.cli.config_files import flags, merged, named_files, read_config, with_bases
from lit_vdistill.cli.refusal import refuse

_KEYS = {"name", "path"}


@dataclass(frozen=True, slots=True)
class _Student:
    file: Path
    """The config file that names it, which earlier stages are given too."""
    name: str
    path: str
    """Network that the first stage begins with."""

    def renamed(self, name: str) -> str:
        return f"{name}_{self.name}"


def with_student(args: Sequence[str]) -> list[str]:
    """Say what follows from the student that a config file names, behind the last such file.

    `--config configs/rmsd.yaml --config configs/models/qwen3.5_4b.yaml` is R-MSD on that student:
    name and folder of the run end in its name, and so do those of the earlier stages, which are
    given its file too. The first of them, or this run where it has none, begins with the student as
    it is. A stage that lies in the repository under such a name (`experiments/stage1_tiny_qwen3.5`)
    is taken as it is. What the command line says of these by itself holds.

    Args:
        args: A command line whose bases are in place (`with_bases`).

    Raises:
        SystemExit: With 2, for a student that is not said as it should be.
    """
    if any(arg.partition("=")[0].startswith("--student") for arg in args):
        refuse("--student: a student is named in a config file, as those in configs/models")
    files = named_files(args)
    found = [file for file in files if read_config(file).get("student") is not None]
    if not found:
        return list(args)
    given = {name.replace(".init_args.", "."): value for name, value in flags(args)}
    student, said = _read(found[-1]), merged(files)
    if "--stage1_config" in given:
        said["stage1_config"] = yaml.safe_load(given["--stage1_config"])
    path, stage = _start(said, student)
    others = [other for other in _stages(said) if not _leaves(other, _path(said))]
    follows = {
        "--name": student.renamed(said.get("name", "student")),
        "--run_dir": student.renamed(said.get("run_dir", "runs/default")),
        "--stage1_config": json.dumps([*([stage] if stage else []), *others]),
        "--model.policy.path": path,
    }
    told = [f"{name}={value}" for name, value in follows.items() if name not in given]
    behind = len(args) - args[::-1].index("--config") + 1
    return [*args[:behind], *told, *args[behind:]]


def _start(said: Mapping[str, Any], student: _Student) -> tuple[str, list[str] | None]:
    """What a recipe's policy is for a student, and the stage that leaves it, if one does."""
    for earlier in _stages(said):
        if not _leaves(earlier, _path(said)):
            continue
        recipe = earlier[1]
        below = merged(named_files(with_bases(["--config", recipe])))
        if below.get("for_random_weights") and not student.path.startswith("tiny/"):
            return _start(below, student)
        home = student.renamed(earlier[0])
        if not Path(home, "student").is_dir():
            home = student.renamed(below.get("run_dir", "runs/default"))
        return f"{home}/student", [home, recipe, str(student.file)]
    return student.path, None


def _stages(said: Mapping[str, Any]) -> list[list[str]]:
    """Earlier stages: folder and config files of each."""
    stages = said.get("stage1_config") or []
    if not isinstance(stages, list) or not all(map(_is_stage, stages)):
        refuse(f"stage1_config: expected a list of [folder, config file, …], got {stages!r:.200}")
    return stages


def _is_stage(given: Any) -> bool:
    is_list = isinstance(given, list) and len(given) > 1
    return is_list and all(isinstance(part, str) for part in given)


def _path(said: Mapping[str, Any]) -> str:
    """Path of the policy."""
    place: Any = said
    for key in ("model", "init_args", "policy", "path"):
        place = place.get(key) if isinstance(place, dict) else None
    return str(place)


def _leaves(stage: Sequence[str], path: str) -> bool:
    """Whether an earlier stage leaves the student at a path."""
    return Path(stage[0], "student") == Path(path)


def _read(file: Path) -> _Student:
    said = read_config(file)["student"]
    if not isinstance(said, dict) or said.keys() != _KEYS or not isinstance(said["path"], str):
        refuse(f"{file}: student: expected a name and a path, got {said!r:.200}")
    name = said["name"]
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        refuse(f"{file}: student.name is a part of folder names, of letters, digits, . _ -, not "
               f"{name!r:.80}")  # fmt: skip
    return _Student(file, name, said["path"])
