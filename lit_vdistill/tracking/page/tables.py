"""A table as a page and a Markdown file show it: cells with what is said small below them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell: `Cell("0.412", ("0.371 to 0.453",))`."""

    text: str
    notes: tuple[str, ...] = ()
    """Small, a line each."""
    is_marked: bool = False
    """Whether it differs from its neighbours, or asks for attention."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column: `Column("runs/visd", "student of step 600", is_number=True)`."""

    name: str
    note: str = ""
    """Small, below the name."""
    is_number: bool = False
    """Set to the right, in figures of one width."""
    is_quiet: bool = False
    """Beside the matter: shown paler, as what is not to be compared."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; the first cell of a row names it."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        """Refuse rows of another length.

        Raises:
            ValueError: Names the row.
        """
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} of a table has {len(row)} cells, expected {len(self.columns)}, "
                    "one a column"
                )


def names_of(folders: Sequence[str]) -> list[str]:
    """What runs are called beside each other: their folders below the one that holds them all."""
    paths = [Path(folder).absolute() for folder in folders]
    above = Path(os.path.commonpath([path.parent for path in paths]))
    return [str(path.relative_to(above)) for path in paths]


def side_by_side(head: str, settings: Mapping[str, Mapping[str, Any]]) -> Table:
    """Nested settings, a row a key and a column a run; those that differ are marked, and first.

    Args:
        head: What a row is.
        settings: By the name of the run; one that has not a key has an empty cell.
    """
    flat = [dict(flattened(found)) for found in settings.values()]
    rows = []
    for key in keys_of(flat):
        values = [found.get(key, "") for found in flat]
        differs = len(set(values)) > 1
        rows.append([Cell(key), *(Cell(value, is_marked=differs) for value in values)])
    rows.sort(key=lambda row: not row[-1].is_marked)
    return Table([Column(head), *map(Column, settings)], rows)


def keys_of(among: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of all, each once, in the order in which they come."""
    return list(dict.fromkeys(name for mapping in among for name in mapping))


def flattened(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as `a.b` and their texts; a list is one value."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flattened(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, dict):
        yield key, "none"
    else:
        yield key, "null" if value is None else str(value)
