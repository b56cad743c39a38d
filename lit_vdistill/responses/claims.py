"""What a text claims about a video, clause by clause, and which known thing each clause is about.

A fact is a word of some kind (a colour, a shape, a place) about a thing. `claims` finds such words
in a text with their places in it; `matched` says of each clause which thing it describes. Both are
pure: the words come with the sample (`types.Facts`).
"""

import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from lit_vdistill.types import Facts

_BOX = re.compile(r"<box>[^<]*</box>")
_BOUNDARY = re.compile(r"</?(?:think|answer)>|[,.;](?=\s|<|$)|\n|\band\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Claim:
    """A word of a known kind in a text."""

    start: int
    """Its first character."""
    end: int
    """The one behind its last."""
    kind: str
    value: str
    """As the facts spell it."""


@dataclass(frozen=True, slots=True)
class Clause:
    """What is said without a break, about one thing as a rule."""

    claims: tuple[Claim, ...]

    def says(self, kind: str, value: str) -> bool:
        """Whether this is among it."""
        return any(claim.kind == kind and claim.value == value for claim in self.claims)

    def agreement(self, thing: Mapping[str, str]) -> int:
        """How many facts of a thing it states."""
        return sum(self.says(kind, value) for kind, value in thing.items())


def clauses(text: str, facts: Facts) -> list[Clause]:
    """The clauses of a text that claim anything, in their order.

    They end at commas, full stops, line breaks, `and` and tags of the envelope; the commas of a box
    are none.
    """
    hidden = _BOX.sub(lambda found: " " * len(found.group()), text)
    ends = [found.start() for found in _BOUNDARY.finditer(hidden)]
    by_clause = groupby(_claims(hidden, facts), key=lambda claim: bisect(ends, claim.start))
    return [Clause(tuple(claims)) for _, claims in by_clause]


def matched(said: Sequence[Clause], things: Sequence[Mapping[str, str]]) -> list[int | None]:
    """Which thing each clause is about: its index; None = none, or what cannot be told.

    Things are given to clauses by agreement, most first, each to one clause; of equal ones the
    earlier. A clause that is left over goes on about the thing that it contradicts in nothing, the
    last mentioned first. A single thing is what every clause is about.
    """
    if len(things) == 1:
        return [0] * len(said)
    pairs = [
        (-clause.agreement(thing), i, t)
        for i, clause in enumerate(said)
        for t, thing in enumerate(things)
    ]
    about: list[int | None] = [None] * len(said)
    given: set[int] = set()
    for agreement, i, t in sorted(pairs):
        if agreement and about[i] is None and t not in given:
            about[i] = t
            given.add(t)
    mentioned: list[int] = []
    for i, clause in enumerate(said):
        if about[i] is None:
            about[i] = _continued(clause, mentioned, things)
        mentioned = [t for t in mentioned if t != about[i]]
        mentioned += [t for t in (about[i],) if t is not None]
    return about


def _continued(
    clause: Clause, mentioned: Sequence[int], things: Sequence[Mapping[str, str]]
) -> int | None:
    for t in reversed(mentioned):
        if all(things[t].get(claim.kind) == claim.value for claim in clause.claims):
            return t
    return None


def _claims(text: str, facts: Facts) -> Iterator[Claim]:
    kinds = {word.lower(): (kind, word) for kind, words in facts.words.items() for word in words}
    if not kinds:
        return
    # Longer words first: "top left" is not "left".
    longest = sorted(kinds, key=len, reverse=True)
    # A word ends where a word or number does: "2" is not in "2.0".
    pattern = rf"(?<![\w.])(?:{'|'.join(map(re.escape, longest))})(?!\w|\.\d)"
    for found in re.finditer(pattern, text, re.IGNORECASE):
        kind, word = kinds[found.group().lower()]
        yield Claim(found.start(), found.end(), kind, word)
