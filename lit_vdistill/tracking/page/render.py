"""Filling a template: everything that it is given is escaped, whoever wrote it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_KIT = Path(__file__).parent
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters and half surrogate pairs: no page, file or picture can hold them."""
_MARKDOWN = re.compile(r"([\\`*_\[\]|#~$])")


def clean(text: str) -> str:
    """A text that can be written: what is no character becomes U+FFFD."""
    return _NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def in_markdown(value: object) -> Markup:
    """A value as plain text within a line of Markdown, in a cell of a table too."""
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(_MARKDOWN.sub(r"\\\1", line))


def render(template: Path, values: Mapping[str, Any]) -> str:
    """The page, or the Markdown file, that a template makes of values.

    Args:
        template: A file of a package; it may extend and import those of this folder.
        values: What it names. All text is escaped.

    Raises:
        jinja2.UndefinedError: For a name that the template uses and nobody gave.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, _KIT]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = in_markdown
    return clean(environment.get_template(template.name).render(values))
