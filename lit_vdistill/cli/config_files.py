"""The YAML files of a command, with those below them, and what they say together."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lit_vdistill.cli.refusal import refuse


def with_bases(args: Sequence[str]) -> list[str]:
    """Put the files that a config names under `base` before it, theirs before them.

    `base: [data/world.yaml, cluster/cpu.yaml]`, relative to the file, merges those below it: the
    parser itself knows several `--config` and no inclusion.

    Raises:
        SystemExit: With 2, for a file that does not exist or is no YAML.
    """
    expanded: list[str] = []
    rest = iter(args)
    for arg in rest:
        name, _, value = arg.partition("=")
        if name not in ("--config", "-c"):
            expanded.append(arg)
            continue
        path = Path(value or next(rest, ""))
        for file in (*_bases(path), path):
            expanded += ["--config", str(file)]
    return expanded


def _bases(path: Path) -> list[Path]:
    names = read_config(path).get("base") or []
    found: list[Path] = []
    for base in [names] if isinstance(names, str) else names:
        file = path.parent / base
        if not file.is_file():
            refuse(f"{path}: base '{base}' does not exist ({file})")
        found += [*_bases(file), file]
    return found


def read_config(path: Path) -> dict[str, Any]:
    """What one file says.

    Raises:
        SystemExit: With 2, for a file that does not exist or holds no keys in YAML.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        refuse(f"--config {path}: {(error.strerror or str(error)).lower()}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        refuse(f"{place}: not YAML: {error.problem or error.context}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        refuse(f"{path}: not YAML in UTF-8: {str(error).splitlines()[0]}")
    if not isinstance(config, dict):
        refuse(f"{path}: expected keys as `trainer:`, got {config!r:.80}")
    return config


def named_files(args: Sequence[str]) -> list[Path]:
    """The config files of a command whose bases are in place, weakest first."""
    return [Path(value) for name, value in zip(args, args[1:], strict=False) if name == "--config"]


def merged(files: Sequence[Path]) -> dict[str, Any]:
    """What files say together: keys merge; a list replaces another, or goes behind it as `key+`."""
    whole: dict[str, Any] = {}
    for file in files:
        merge(whole, read_config(file))
    return whole


def merge(whole: dict[str, Any], more: dict[str, Any]) -> None:
    """Put what one file says into what those before it have said; see `merged`."""
    for key, value in more.items():
        name = str(key)
        if name.endswith("+"):
            name = name.removesuffix("+")
            added = value if isinstance(value, list) else [value]
            whole[name] = [*(whole.get(name) or []), *added]
        elif isinstance(value, dict) and isinstance(whole.get(name), dict):
            merge(whole[name], value)
        else:
            whole[name] = value


def stage_class(args: Sequence[str]) -> str | None:
    """The class path of the stage that a command names, on its line or in its files."""
    for option in ("--model", "--model.class_path"):
        for name, value in flags(args):
            if name == option:
                return value if "." in value else f"lit_vdistill.stages.{value}"
    model = merged(named_files(args)).get("model")
    return model.get("class_path") if isinstance(model, dict) else None


def flags(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options of a command line with what is given to them, as `--x=1` or `--x 1`."""
    for arg, following in zip(args, [*args[1:], ""], strict=True):
        name, sign, value = arg.partition("=")
        yield name, value if sign else following
