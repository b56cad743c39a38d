"""A table as a page and a Markdown file show it: cells with what is said small below them."""

from collections.abc import Sequence
from dataclasses import dataclass


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
