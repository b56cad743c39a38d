"""What is said about a mistake in a command or a config: in words a user can act on.

jsonargparse knows a wrong key by its place within a class. Here it is found again where the user
wrote it, on the command line or in a file, and named as it stands there, like what is nearest.
"""

import dis
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from lit_vdistill.cli.config_files import merged, named_files, read_config, stage_class
from lit_vdistill.cli.help import DATA, RUN_OPTIONS, TRAINER, stages
from lit_vdistill.cli.options import option_names, public_names, subclasses
from lit_vdistill.cli.refusal import refuse

_UNKNOWN = re.compile(
    r"(?:Group '(?P<group>[\w.]+)'|Subcommand '\w+') does not accept option '(?P<key>[\w.]+)'"
    r"|Option '(?P<option>[\w.]+)' is not accepted"
    r"|unrecognized arguments: --(?P<flag>[\w.+]+)"
    r"|Unexpected option: (?P<unexpected>[\w.]+)|Key '(?P<nested>[\w.]+)' is not expected"
)
_CLASS = re.compile(
    r"given class_path '(?P<path>[^']*)':\s*(?P<reason>.*)|dot import path string: (?P<short>\w+)"
)
_VALUE = re.compile(r'Parser key "(?P<key>[\w.]+)":(?P<told>.*)', re.S)
_MOST_LINES = 3


@dataclass(frozen=True)
class _Place:
    """Where a user has written a key."""

    typed: str
    """The key as it stands there: `--model.optim.lrr`, or `model.init_args.optim.lrr` in YAML."""
    file: Path | None
    """The file, None for the command line."""
    valid: tuple[str, ...]
    """What could stand there instead, in the same form."""


def explained(message: str, args: Sequence[str]) -> str:
    """A parser's message in one to three lines.

    Args:
        message: As jsonargparse writes it.
        args: The command's arguments, with the bases of its configs in place.
    """
    if "arguments are required" in message and not named_files(args):
        return "name a recipe: --config configs/rmsd.yaml (all that can be set: --help)"
    if found := _UNKNOWN.search(message):
        key = ".".join(part for part in found.groups() if part)
        place = _place(key, args)
        if place is None:
            return message.strip()
        near = _nearest(place.typed, place.valid)
        told = f"{place.file}: no key" if place.file else "no option"
        return f"{told} {place.typed}" + (f"\nDid you mean {near}?" if near else "")
    if found := _CLASS.search(message):
        return _about_class(found["path"] or found["short"], found["reason"])
    if found := _VALUE.search(message):
        return f"{_written(found['key'], args)}: {_expected(found['told'])}"
    return "\n".join(message.strip().splitlines()[:_MOST_LINES])


def _about_class(path: str, reason: str | None) -> str:
    module, _, name = path.rpartition(".")
    ours = [f"{home}.{known}" for home, known in _known_classes()]
    if module and public_names(module):
        valid = [f"{module}.{known}" for known in public_names(module)]
    else:
        valid = ours if module else [known for _, known in _known_classes()]
    near = _nearest(path, valid) or _nearest(name, [known for _, known in _known_classes()])
    told = f"no class '{path}'" + (f": {reason.strip()}" if reason else "")
    return told + (f"\nDid you mean {near}?" if near else "")


@cache
def _known_classes() -> list[tuple[str, str]]:
    """Module and name of every class of ours that a config can name."""
    paths = [*stages(), DATA, *subclasses("callbacks", "Callback")]
    paths += subclasses("lit_vdistill.rewards", "Reward")
    split = (path.rpartition(".") for path in paths)
    return [(module, name) for module, _, name in split]


def _expected(told: str) -> str:
    """Expected type and given value, without the parser's steps on the way."""
    union = re.search(r"Subtypes: [\[(](.*)[\])]\n", told)
    plain = re.search(r"Expected an? (.*?)\. Got value: (.*)", told)
    given = re.search(r"Given value: (.*)", told)
    if union and given:
        return f"expected {_types(union[1])}, got {given[1]:.200}"
    if plain:
        return f"expected {_types(plain[1])}, got {plain[2]:.200}"
    lines = [line.strip() for line in told.strip().splitlines() if line.strip()]
    return "\n".join(lines[:_MOST_LINES])


def _types(text: str) -> str:
    text = re.sub(r"<class '([^']*)'>", r"\1", text.replace("typing.", ""))
    return re.sub(r"\b(\w+\.)+(?=\w)", "", text).replace("NoneType", "null").replace(", ", " or ")


def _written(key: str, args: Sequence[str]) -> str:
    place = _place(key, args)
    if place is None:
        return key
    return f"{place.file}: {place.typed}" if place.file else place.typed


def _place(key: str, args: Sequence[str]) -> _Place | None:
    """Where a key stands that a parser names without what lies above it; the last place wins."""
    for arg in reversed(args):
        flag = arg.partition("=")[0]
        if flag.startswith("--") and _ends(flag.removeprefix("--").replace(".init_args", ""), key):
            return _Place(flag, None, tuple(f"--{name}" for name in _flag_names(args)))
    files = named_files(args)
    whole = merged(files)
    for file in reversed(files):
        for path in _paths(read_config(file)):
            if _ends(path, key):
                return _Place(path, file, tuple(_yaml_names(path, whole)))
    return None


def _ends(path: str, key: str) -> bool:
    return path == key or path.endswith(f".{key}")


def _paths(tree: Any, prefix: str = "") -> Iterator[str]:
    """The dotted path of every key, with the index in a list: `trainer.callbacks[1].class_path`."""
    if isinstance(tree, dict):
        for name, below in tree.items():
            yield f"{prefix}{name}"
            yield from _paths(below, f"{prefix}{name}.")
    elif isinstance(tree, list):
        for index, below in enumerate(tree):
            yield from _paths(below, f"{prefix.removesuffix('.')}[{index}].")


def _flag_names(args: Sequence[str]) -> list[str]:
    return _names(stage_class(args), "")


def _names(stage: str | None, below: str) -> list[str]:
    model = option_names(stage) if stage else [n for path in stages() for n in option_names(path)]
    return [
        *RUN_OPTIONS,
        *(f"model.{below}{name}" for name in model),
        *(f"data.{below}{name}" for name in option_names(DATA)),
        *(f"trainer.{name}" for name in option_names(TRAINER)),
    ]


def _yaml_names(path: str, whole: dict[str, Any]) -> list[str]:
    """What can stand beside a key: the options of the class that it is below, else everything."""
    above, found, _ = path.rpartition(".init_args.")
    node: Any = whole
    for name, index in re.findall(r"([\w+]+)|\[(\d+)\]", above):
        if isinstance(node, list) and index:
            node = node[int(index)] if int(index) < len(node) else None
        elif isinstance(node, dict):
            node = node.get(name.removesuffix("+"))
    if found and isinstance(node, dict) and "class_path" in node:
        return [f"{above}.init_args.{name}" for name in option_names(node["class_path"])]
    model = whole.get("model")
    return _names(model.get("class_path") if isinstance(model, dict) else None, "init_args.")


def _nearest(name: str, valid: Sequence[str]) -> str | None:
    """The closest name; one that differs within one part of the path goes before all others."""
    parts = name.split(".")
    alike = [other for other in valid if _differing(parts, other.split(".")) == 1]
    close = get_close_matches(name, alike, n=1) or get_close_matches(name, valid, n=1)
    return close[0] if close else None


def _differing(parts: Sequence[str], others: Sequence[str]) -> int:
    if len(parts) != len(others):
        return len(parts)
    return sum(part != other for part, other in zip(parts, others, strict=True))


@contextmanager
def mistakes_told(
    kinds: tuple[type[Exception], ...] = (ValueError, OSError), *, of: Sequence[str] = ()
) -> Iterator[None]:
    """End with what an error says, without its traceback, where it was written for a user.

    That is one that a `raise` has made: by the project's rule a ValueError or OSError names an
    input or an option, what was expected and what came. One that Python itself raises on the way,
    in a library or by a slip of ours, is a bug and keeps its traceback.

    Args:
        kinds: Errors that are meant.
        of: Packages whose errors are meant; empty for all.

    Raises:
        SystemExit: With 2, for a mistake.
    """
    try:
        yield
    except kinds as error:
        first: BaseException = error
        frame = _last(error)
        # jsonargparse tries a class among several types, and says why none fits.
        while _package(frame) == "jsonargparse" and first.__cause__ is not None:
            first = first.__cause__
            frame = _last(first)
        is_told = isinstance(first, kinds) and _is_raise(frame)
        if not is_told or (of and _package(frame) not in of):
            raise
        refuse(str(first))


def _last(error: BaseException) -> TracebackType:
    """Where an error was made."""
    frame = error.__traceback__
    assert frame is not None
    while frame.tb_next is not None:
        frame = frame.tb_next
    return frame


def _package(frame: TracebackType) -> str:
    return frame.tb_frame.f_globals.get("__name__", "").partition(".")[0]


def _is_raise(frame: TracebackType) -> bool:
    return dis.opname[frame.tb_frame.f_code.co_code[frame.tb_lasti]] == "RAISE_VARARGS"
