"""Sweep files: W&B's format, of which the grid is taken, and what each cell's config says.

The same file serves `wandb sweep FILE` and `python -m experiments.sweep FILE`. Of W&B's format
(https://docs.wandb.ai, "Sweep configuration options") it may have `name`, `description`, `program`,
`method: grid`, `metric`, `parameters` with `value` or `values`, `command`, `project` and `entity`.
What W&B would let pass, or would pass on as something that the command cannot read, is refused.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.methods import with_stages
from lit_vdistill.cli.config_files import merge, read_config, with_bases

Value = str | int | float | bool
SEED = "seed_everything"
"""The parameter that is no part of a cell: each cell has all seeds."""
_KEYS = {
    "name": True, "program": True, "method": True, "metric": True, "parameters": True,
    "command": True, "description": False, "project": False, "entity": False,
}  # fmt: skip
"""Keys of a file, and whether each has to be there."""
_ARGUMENTS = ("${args}", "${args_no_hyphens}")
_MACROS = ("${env}", "${interpreter}", "${program}", *_ARGUMENTS)
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OF_A_RUN = ("base", "name", "run_dir", "overwrite", SEED)
"""What a config says of a run that changes nothing in what it computes, or is kept beside it."""


class SweepFileError(ValueError):
    """A sweep file that cannot be used; the message names file and key, and says how to mend it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid, with all seeds."""

    name: str
    """Of what varies: recipes by their file, others as `<last part of the key>-<value>`."""
    parameters: Mapping[str, Value]
    """Without the seed."""
    arguments: tuple[str, ...]
    """What stands behind `fit` in its command, the seed left out."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep file that was checked."""

    name: str
    program: str
    command: tuple[str, ...]
    """With macros, as W&B has it."""
    cells: tuple[Cell, ...]
    """In the order of the grid, the last parameter running fastest; the first is the base."""
    seeds: tuple[int, ...]


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        SweepFileError: For anything that is not as this module says.
        OSError: For a file that cannot be read.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SweepFileError(f"{path}: not YAML in UTF-8: {str(error) or 'nested'}") from error
    check = _Checks(path)
    top = check.mapping("the file", found, _KEYS)
    for key in ("name", "program", "description", "project", "entity"):
        if key in top:
            check.text(key, top[key])
    check.that(top["name"] == path.stem, "name", f"'{path.stem}', as its file", top["name"])
    check.that(top["method"] == "grid", "method", "'grid'", top["method"])
    metric = check.mapping("metric", top["metric"], {"name": True, "goal": True})
    check.text("metric.name", metric["name"])
    goals = ("maximize", "minimize")
    check.that(metric["goal"] in goals, "metric.goal", " or ".join(goals), metric["goal"])
    parameters = check.parameters(top["parameters"])
    command = check.command(top["command"])
    seeds = parameters.pop(SEED, (0,))
    check.that(
        all(type(seed) is int and seed >= 0 for seed in seeds),
        f"parameters.{SEED}", "whole numbers from 0", list(seeds),
    )  # fmt: skip
    points = [
        dict(zip(parameters, point, strict=True))
        for point in itertools.product(*parameters.values())
    ]
    varied = [key for key, values in parameters.items() if len(values) > 1]
    cells = []
    for point in points:
        name = "_".join(_said(key, point[key]) for key in varied) or top["name"]
        check.that(
            _SAFE.fullmatch(name) is not None,
            "parameters", "values that make a file's name (letters, digits, . _ -)", name,
        )  # fmt: skip
        words = expanded(command, top["program"], point)
        cells.append(Cell(name, point, tuple(words[words.index("fit") + 1 :])))
    names = [cell.name for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    check.that(not twice, "parameters", "values that give each cell a name of its own", twice)
    return Sweep(top["name"], top["program"], command, tuple(cells), tuple(map(int, seeds)))


def expanded(
    command: Sequence[str], program: str, point: Mapping[str, Value], interpreter: str = "python"
) -> list[str]:
    """A command whose macros are filled in, as W&B's agent does it."""
    flags = [f"{key}={value}" for key, value in point.items()]
    filled = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [interpreter],
        "${program}": [program],
        "${args}": [f"--{flag}" for flag in flags],
        "${args_no_hyphens}": flags,
    }
    return [word for part in command for word in filled.get(part, [part])]


def config_of(cell: Cell) -> dict[str, Any]:
    """What a cell's files and overrides say together, in their order, and its earlier stages' too.

    Left out is what a run is called and where it lies, and what it logs to.

    Raises:
        ValueError: For an option that adds to a list, which belongs into a recipe.
    """
    whole: dict[str, Any] = {}
    words = iter(with_bases(cell.arguments))
    for word in words:
        name, sign, value = word.removeprefix("--").partition("=")
        value = value if sign else next(words, "")
        if name == "config":
            merge(whole, read_config(Path(value)))
        elif name.endswith("+"):
            raise ValueError(f"{cell.name}: --{name} adds to a list; write it into a recipe")
        elif not name.startswith("trainer.logger."):
            _put(whole, name.split("."), yaml.safe_load(value))
    for key in _OF_A_RUN:
        whole.pop(key, None)
    whole.get("trainer", {}).pop("logger", None)
    return whole


def hash_of(config: dict[str, Any]) -> str:
    """Changes with every value of a merged config and of its earlier stages."""
    said = json.dumps(with_stages(config), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def _put(node: Any, keys: Sequence[str], value: Any) -> None:
    """Set a value by dotted key as the command does: within `init_args`, of a list's last item."""
    key, *rest = keys
    if isinstance(node, list):
        node = node[-1]
    if "class_path" in node and key not in ("class_path", "init_args"):
        node = node.setdefault("init_args", {})
    if not rest:
        node[key] = value
        return
    if not isinstance(node.get(key), (dict, list)):
        node[key] = {}
    _put(node[key], rest, value)


def _said(key: str, value: Value) -> str:
    if key == "config":
        return Path(str(value)).stem
    return f"{key.rpartition('.')[2]}-{value}"


@dataclass(frozen=True, slots=True)
class _Checks:
    path: Path

    def that(self, is_so: bool, key: str, expected: str, got: Any) -> None:
        if not is_so:
            raise SweepFileError(f"{self.path}: {key}: expected {expected}, got {got!r:.80}")

    def text(self, key: str, value: Any) -> None:
        is_text = isinstance(value, str) and bool(value.strip())
        self.that(is_text, key, "a text that is not empty", value)

    def mapping(self, what: str, value: Any, known: Mapping[str, bool]) -> dict[str, Any]:
        self.that(isinstance(value, dict), what, f"keys {', '.join(known)}", value)
        missing = [key for key, is_needed in known.items() if is_needed and key not in value]
        self.that(not missing, what, "the keys " + ", ".join(missing), list(value))
        unknown = [key for key in value if key not in known]
        self.that(not unknown, what, f"no keys but {', '.join(known)}", unknown)
        return value

    def parameters(self, value: Any) -> dict[str, tuple[Value, ...]]:
        is_grid = isinstance(value, dict) and bool(value)
        self.that(is_grid, "parameters", "one key or more, each with `values`", value)
        found = {}
        for name, given in value.items():
            key = f"parameters.{name}"
            self.text(key, name)
            is_one = isinstance(given, dict) and set(given) in ({"value"}, {"values"})
            self.that(is_one, key, "`value` or `values` alone", given)
            values = given.get("values", [given.get("value")])
            self.that(isinstance(values, list) and bool(values), key, "a list of values", values)
            for item in values:
                is_plain = isinstance(item, (str, int, float))
                is_plain = is_plain and not (isinstance(item, float) and not math.isfinite(item))
                expected = "texts, finite numbers or true and false (null as the text 'null')"
                self.that(is_plain, key, expected, item)
            told = [str(item) for item in values]
            self.that(len(set(told)) == len(told), key, "each value once", values)
            found[name] = tuple(values)
        return found

    def command(self, value: Any) -> tuple[str, ...]:
        is_list = isinstance(value, list) and all(isinstance(word, str) for word in value)
        self.that(is_list, "command", "a list of words", value)
        count = sum(value.count(macro) for macro in _ARGUMENTS)
        self.that(count == 1, "command", f"one of {' or '.join(_ARGUMENTS)}, once", value)
        unknown = [w for w in value if re.fullmatch(r"\$\{.*\}", w) and w not in _MACROS]
        self.that(not unknown, "command", f"no macros but {', '.join(_MACROS)}", unknown)
        is_fit = "fit" in value and "${program}" in value[: value.index("fit")]
        self.that(is_fit, "command", "`fit` behind ${program}", value)
        return tuple(value)
