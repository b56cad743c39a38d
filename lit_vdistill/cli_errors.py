"""What is said about a mistake in a command or a config."""

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import jsonargparse
from lightning.pytorch.cli import LightningArgumentParser

import callbacks
from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.stages.vlm_stage import VLMStage

_BAD_NAME = re.compile(
    r"Option '(?P<option>[\w.]+)' is not accepted|does not accept option '(?P<key>[\w.]+)'"
    r"|unrecognized arguments: --(?P<flag>[\w.]+)|has no attribute '(?P<name>\w+)'"
    r"|Unexpected option: (?P<unexpected>[\w.]+)|Key '(?P<nested>[\w.]+)' is not expected"
)


class VDistillParser(LightningArgumentParser):
    """Reports a mistake in a line or two, with the nearest valid name."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Print what is wrong and exit with 2.

        Raises:
            SystemExit: Always.
        """
        sys.stderr.write(f"{self.prog}: error: {message.strip()}{self._suggestion(message)}\n")
        raise SystemExit(2)

    def _suggestion(self, message: str) -> str:
        found = _BAD_NAME.search(message)
        if not found:
            return ""
        bad = next(name for name in found.groups() if name)
        close = get_close_matches(bad, self._known_names(), n=1)
        close = close or get_close_matches(bad.rsplit(".", 1)[-1], self._known_names(), n=1)
        return f"\nDid you mean '{close[0]}'?" if close else ""

    def _known_names(self) -> list[str]:
        """Every key of the command, and every parameter and class a config can name."""
        names = set(_option_names(self))
        for cls in [*_subclasses(VLMStage), VideoDistillDataModule, *_callback_classes()]:
            names |= {cls.__name__, *_parameter_names(cls)}
        return sorted(names)


def _option_names(parser: jsonargparse.ArgumentParser) -> Iterable[str]:
    for action in parser._actions:
        yield from (option.removeprefix("--") for option in action.option_strings)
        for command in getattr(action, "_name_parser_map", {}).values():
            yield from _option_names(command)


def _subclasses(cls: type) -> list[type]:
    return [cls, *(deeper for sub in cls.__subclasses__() for deeper in _subclasses(sub))]


def _callback_classes() -> list[type]:
    return [getattr(callbacks, name) for name in callbacks.__all__]


def _parameter_names(cls: type) -> Iterable[str]:
    """Parameters of a class, and dotted fields of those that are dataclasses."""
    import dataclasses
    import inspect
    import typing

    hints = typing.get_type_hints(cls.__init__)
    for name in inspect.signature(cls).parameters:
        yield name
        kinds = [hints.get(name), *typing.get_args(hints.get(name))]
        for kind in kinds:
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                for field in dataclasses.fields(kind):
                    yield from (field.name, f"{name}.{field.name}")
