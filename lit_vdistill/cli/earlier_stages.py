"""Earlier stages: one is fitted first where a run begins with the student that it leaves behind."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from lit_vdistill.models.vlm import VLMConfig, check_network

Parse = Callable[[list[str]], Namespace]
"""Gives the merged config of `fit` for a command line, as the command itself does."""
_NETWORK = {field.name for field in fields(VLMConfig)}
_OWN_DATA = ("processor", "loader")
"""Of `data`, what belongs to a stage's recipe; all else says what its samples are."""
_MACHINE_POLICY = ("attn_implementation", "dtype", "gradient_checkpointing", "shared_prefix")
_MACHINE_TRAINER = ("accelerator", "precision")
"""What a stage shares with this run because both run here."""


class EarlierStageError(ValueError):
    """A network that a run needs and that cannot be had; the message is one line."""


@dataclass(frozen=True, slots=True)
class EarlierStage:
    """A stage that can be fitted for this run."""

    folder: str
    """Its run folder."""
    configs: tuple[str, ...]
    """Its config files: a recipe, and what is put over it."""
    student: Path
    """What its `ExportStudent` will write, absolute."""


def fit_missing(config: Namespace, parse: Parse) -> None:
    """Fit the stages whose students this run's model names and that do not exist yet.

    A stage is fitted for no other path: one that is mistyped, or that a hub does not know, ends the
    run before anything is written. The stage learns from this run's data and with its seed.

    Args:
        config: The run's merged config.
        parse: See `Parse`.

    Raises:
        EarlierStageError: For a network that does not exist and that no stage will leave.
        SystemExit: With the code of a stage that has not finished.
    """
    named = dict(_networks(config.model.as_dict(), "model"))
    missing = {path: key for key, path in named.items() if not _is_there(path)}
    if not missing:
        return
    with tempfile.TemporaryDirectory() as scratch:
        handed_on = Path(scratch) / "handed_on.yaml"
        handed_on.write_text(yaml.safe_dump(_handed_on(config)), encoding="utf-8")
        stages = [
            _stage(folder, configs, _arguments(config, folder, configs, handed_on), parse)
            for folder, *configs in config.stage1_config or []
        ]
        for path, key in missing.items():
            leaving = [stage for stage in stages if stage.student == _absolute(path)]
            # A folder that holds something else is not a stage's to replace.
            if not leaving or leaving[0].student.exists():
                _refuse_unknown(key, path, stages)
            else:
                _fit(config, leaving[0], handed_on)


def _networks(tree: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every network that a configuration names, by the key of its path."""
    if not isinstance(tree, Mapping):
        return
    if tree.keys() >= _NETWORK:
        yield f"{place}.path", str(tree["path"])
        return
    for key, sub in tree.items():
        yield from _networks(sub, place if key == "init_args" else f"{place}.{key}")


def _is_there(path: str) -> bool:
    return path.startswith("tiny/") or (_absolute(path) / "config.json").is_file()


def _absolute(path: str) -> Path:
    return Path(path).expanduser().resolve()


def _handed_on(config: Namespace) -> dict[str, Any]:
    """What a stage takes over from this run: which samples, and on which hardware."""
    data, policy = config.data.as_dict(), config.model.as_dict()["init_args"]["policy"]
    samples = {key: value for key, value in data["init_args"].items() if key not in _OWN_DATA}
    return {
        "data": {"class_path": data["class_path"], "init_args": samples},
        "model": {"init_args": {"policy": {key: policy[key] for key in _MACHINE_POLICY}}},
        "trainer": {key: config.trainer[key] for key in _MACHINE_TRAINER},
    }


def _arguments(
    config: Namespace, folder: str, configs: Sequence[str], handed_on: Path
) -> list[str]:
    return [
        "fit",
        *_named((*configs, str(handed_on))),
        *("--seed_everything", str(config.seed_everything), "--run_dir", folder),
    ]


def _named(configs: Sequence[str]) -> list[str]:
    return [part for config in configs for part in ("--config", config)]


def _stage(folder: str, configs: Sequence[str], arguments: list[str], parse: Parse) -> EarlierStage:
    missing = [config for config in configs if not Path(config).is_file()]
    if missing or not configs:
        raise EarlierStageError(
            f"stage1_config: the config of {folder}, '{', '.join(missing)}', does not exist; name "
            "a file, relative to the folder that the command runs in"
        )
    for callback in parse(arguments).trainer.callbacks or []:
        if callback.class_path.endswith("ExportStudent"):
            return EarlierStage(folder, tuple(configs), _absolute(callback.init_args.folder))
    raise EarlierStageError(
        f"stage1_config: {configs[0]} exports no student (no callbacks.ExportStudent), so nothing "
        "can begin with it"
    )


def _refuse_unknown(key: str, path: str, stages: list[EarlierStage]) -> None:
    """Say that a network does not exist, and what could be meant; one of a hub's is fine.

    Raises:
        EarlierStageError: Unless a hub has it.
    """
    try:
        check_network(path)
    except FileNotFoundError as error:
        made = [f"{stage.student} (which {stage.configs[0]} would make)" for stage in stages]
        more = f"; or take {' or '.join(made)}" if made else ""
        raise EarlierStageError(f"{key}: {error}{more}") from error


def _fit(config: Namespace, stage: EarlierStage, handed_on: Path) -> None:
    """Run a stage in a process of its own.

    Raises:
        EarlierStageError: Where several processes would each do so.
        SystemExit: With its exit code, if it has not finished.
    """
    several = "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    if several:
        raise EarlierStageError(
            f"the student '{stage.student}' does not exist, and a run of several processes fits no "
            "earlier stage; fit it first: python -m lit_vdistill fit "
            f"{' '.join(_named(stage.configs))} --run_dir {stage.folder}"
        )
    sys.stdout.write(f"No student at {stage.student} yet: fitting {stage.configs[0]} once.\n")
    sys.stdout.flush()
    arguments = _arguments(config, stage.folder, stage.configs, handed_on)
    command = [sys.executable, "-m", "lit_vdistill", *arguments]
    if code := subprocess.run(command, check=False).returncode:
        sys.stderr.write(
            f"{stage.configs[0]} has not finished in {stage.folder}; {config.name} needs it\n"
        )
        raise SystemExit(code)
