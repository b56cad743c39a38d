"""The claims of `CLAIMS.md`, and what a difference over seeds says of one by its rule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lit_vdistill.metrics.intervals import Difference
from lit_vdistill.world.scenes import Split

PAGE = Path("experiments/CLAIMS.md")
COLUMNS = (
    "id", "claim", "said in", "cell", "less", "figure", "split", "sign", "smallest", "seeds",
)  # fmt: skip
THEIRS = ("id", "the paper's row")
BEFORE = "before"
Verdict = Literal["holds", "does not hold", "cannot be told", "not finished", "not run"]
Sign = Literal[">", "<", "="]


@dataclass(frozen=True, slots=True)
class Claim:
    """A row of the table."""

    id: str
    text: str
    source: str
    cell: str
    """As `<sweep>/<cell>`."""
    less: str
    """The cell that it is compared with, or `before`: the student that it starts from."""
    figure: str
    split: Split
    sign: Sign
    smallest: float
    """The smallest effect of interest, above 0."""
    seeds: range
    """Those that count, and no others: 0 to 4 where the page has `5`, or `5-9`."""
    paper: str
    """The paper's own numbers, of another model and other data; empty where it has none."""

    @property
    def sweeps(self) -> set[str]:
        """Those in which its cells lie."""
        return {cell.partition("/")[0] for cell in (self.cell, self.less) if cell != BEFORE}


def read_claims(page: Path = PAGE) -> list[Claim]:
    """The claims of a page, in its order.

    Raises:
        ValueError: For a table that is missing or a row that is not as the others.
    """
    text = page.read_text(encoding="utf-8")
    theirs = {row[0]: row[1] for _, row in _table(page, text, THEIRS)}
    found: list[Claim] = []
    for number, row in _table(page, text, COLUMNS):
        place = f"{page}:{number}"
        *texts, split, sign, smallest, seeds = row
        for key, value, known in (
            ("split", split, ("val", "test")),
            ("sign", sign, get_args(Sign)),
        ):
            if value not in known:
                raise ValueError(f"{place}: {key}: expected one of {known}, got {value!r}")
        try:
            effect, counted = float(smallest), _seeds(seeds)
        except ValueError as error:
            raise ValueError(f"{place}: smallest, seeds: expected numbers: {error}") from error
        if not 0.0 < effect < math.inf or len(counted) < 2:
            raise ValueError(
                f"{place}: expected smallest > 0 and two seeds or more (`5`, `5-9`), got {effect}, "
                f"{seeds}"
            )
        paper = theirs.pop(row[0], "")
        found.append(Claim(*texts, split, sign, effect, counted, paper))  # type: ignore[arg-type]
    twice = sorted({c.id for c in found if [o.id for o in found].count(c.id) > 1})
    if twice or theirs:
        raise ValueError(f"{page}: ids twice: {twice}; papers' rows of no claim: {list(theirs)}")
    return found


def _seeds(text: str) -> range:
    first, dash, last = text.partition("-")
    return range(int(first), int(last) + 1) if dash else range(int(first))


def _table(page: Path, text: str, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Line numbers and cells of the one table with these columns."""
    lines = text.splitlines()
    head = "| " + " | ".join(columns) + " |"
    if lines.count(head) != 1:
        raise ValueError(f"{page}: expected one table with the head {head!r}")
    rows = []
    for number, line in enumerate(lines[lines.index(head) + 2 :], lines.index(head) + 3):
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != len(columns) or not all(cells):
            raise ValueError(
                f"{page}:{number}: expected {len(columns)} cells that are not empty "
                f"({', '.join(columns)}), got {cells}"
            )
        rows.append((number, cells))
    return rows


def verdict(claim: Claim, found: Difference | None) -> Verdict:
    """What the rule says of a difference; None where there is none.

    *Holds*: the interval lies beyond 0 in the claimed direction. *Does not hold*: it excludes the
    smallest effect of interest in that direction. For `=`, *holds* is an interval within ± the
    smallest effect, and *does not hold* one beyond 0 otherwise. Before all of a claim's seeds are
    there it is *not finished*.
    """
    if found is None:
        return "not run"
    if found.count < len(claim.seeds) or found.low is None or found.high is None:
        return "not finished"
    low, high = found.low, found.high
    if claim.sign == "=":
        if -claim.smallest < low and high < claim.smallest:
            return "holds"
        return "does not hold" if low > 0 or high < 0 else "cannot be told"
    if claim.sign == "<":
        low, high = -high, -low
    if low > 0:
        return "holds"
    return "does not hold" if high < claim.smallest else "cannot be told"


def splits_of(sweep: str, claims: Sequence[Claim]) -> list[Split]:
    """Which held-out questions a sweep's students are asked: validation, and test if claimed."""
    is_tested = any(sweep in claim.sweeps and claim.split == "test" for claim in claims)
    return ["val", "test"] if is_tested else ["val"]


def check_cells(claims: Sequence[Claim], cells: Mapping[str, Sequence[str]]) -> None:
    """Refuse claims about cells that no sweep has.

    Raises:
        ValueError: Names claim and cell.
    """
    for claim in claims:
        for name in (claim.cell, claim.less):
            sweep, _, cell = name.partition("/")
            if name != BEFORE and cell not in cells.get(sweep, ()):
                raise ValueError(
                    f"claim {claim.id}: no sweep file has the cell {name!r}; {sweep} has "
                    f"{list(cells.get(sweep, ()))}"
                )
