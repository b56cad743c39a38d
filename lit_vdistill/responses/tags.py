"""The tags of a response, found from left to right in one go.

Every text costs as many steps as it has tags, whatever they are: models write thousands of them
without an end, and a pattern that looks for the end of each reads the text as often.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_TAG = re.compile(r"<(/?)(think|answer|obj|box|t)>")


@dataclass(frozen=True, slots=True)
class Tag:
    """One `<name>` or `</name>`."""

    name: str
    is_closing: bool
    start: int
    """Its first character."""
    end: int
    """The one behind its last."""


@dataclass(frozen=True, slots=True)
class Element:
    """An opening tag, its closing one, and what stands between."""

    name: str
    start: int
    """First character of the opening tag."""
    inner: tuple[int, int]
    """First character between the tags and the one behind the last."""
    end: int
    """The character behind the closing tag."""

    def within(self, text: str) -> str:
        """What stands between its tags."""
        return text[slice(*self.inner)]


@lru_cache(maxsize=16)  # each reward and metric reads the same text
def tags(text: str) -> tuple[Tag, ...]:
    """All tags of the grammar in a text, in order."""
    return tuple(
        Tag(found.group(2), bool(found.group(1)), found.start(), found.end())
        for found in _TAG.finditer(text)
    )


def blocks(among: Sequence[Tag], name: str) -> list[Element]:
    """Elements of a name that may hold others: from the first opening tag to the next closing one.

    One that is not closed is none.
    """
    found: list[Element] = []
    opened: Tag | None = None
    for tag in among:
        if tag.name == name and not tag.is_closing and opened is None:
            opened = tag
        elif tag.name == name and tag.is_closing and opened is not None:
            found.append(_element(opened, tag))
            opened = None
    return found


def leaves(among: Sequence[Tag]) -> list[Element]:
    """Elements that hold no tag: an opening tag that its closing one follows."""
    return [
        _element(first, second)
        for first, second in zip(among, among[1:], strict=False)
        if (first.name, first.is_closing, second.is_closing) == (second.name, False, True)
    ]


def _element(opening: Tag, closing: Tag) -> Element:
    return Element(opening.name, opening.start, (opening.end, closing.start), closing.end)
