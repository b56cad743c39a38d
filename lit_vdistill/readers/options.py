"""Options with their letters, as other people's records write them."""

import re
from collections import defaultdict
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERED = re.compile(r"\s*\(?([A-Z])[.):]\s*")
_MARKER = re.compile(r"(?<!\S)(\(?)([A-Z])([.):])(\s?)")


def bare_options(options: Sequence[str]) -> tuple[str, ...]:
    """Options without their letters: `A. cat`, `A.cat`, `A) cat`, `(A) cat` and `A: cat`.

    Letters are taken off where all options have theirs, in order: the `U.` of `U.S. Navy` is none.
    """
    found = [_LETTERED.match(option) for option in options]
    if "".join(match.group(1) if match else "?" for match in found) != LETTERS[: len(options)]:
        return tuple(options)
    return tuple(
        option[match.end() :] for option, match in zip(options, found, strict=True) if match
    )


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """The bare question and its options of a text such as `Why? A. cat B. dog`.

    Letters count where they follow each other in one way of writing; of several such rows the
    longest, and of equals the last. So a `Dr. A. Smith` is no option.

    Raises:
        ValueError: When there is no such row, or an option has no text.
    """
    ways: dict[tuple[str, ...], list[re.Match[str]]] = defaultdict(list)
    for marker in _MARKER.finditer(text):
        bracket, _, sign, space = marker.groups()
        ways[bracket, sign, str(bool(space))].append(marker)
    rows = [row for markers in ways.values() for row in _rows(markers)]
    row = max(rows, key=lambda row: (len(row), row[0].start()), default=[])
    if len(row) < 2:
        raise ValueError(f"'question' must list its options as 'A. … B. …', got {text!r:.80}")
    ends = [*(marker.start() for marker in row[1:]), len(text)]
    options = tuple(text[marker.end() : end].strip() for marker, end in zip(row, ends, strict=True))
    if not all(options):
        raise ValueError(f"'question' has an option without a text: {options!r:.80}")
    return text[: row[0].start()].strip(), options


def _rows(markers: Sequence[re.Match[str]]) -> list[list[re.Match[str]]]:
    """From each `A` on, the letters that follow each other with some text between them.

    Read from behind, each `A` takes the nearest `B` behind it, and what that one had taken.
    """
    places: dict[str, list[int]] = defaultdict(list)
    following: dict[int, int] = {}
    for place in range(len(markers) - 1, -1, -1):
        letter = markers[place].group(2)
        after = places[LETTERS[LETTERS.index(letter) + 1 :][:1]]
        # The very next thing is this option's text: `B. C. elegans`.
        far = [other for other in after[-2:] if markers[other].start() > markers[place].end()]
        if far:
            following[place] = far[-1]
        places[letter].append(place)
    rows = []
    for start in places["A"]:
        row = [start]
        while row[-1] in following:
            row.append(following[row[-1]])
        rows.append([markers[place] for place in row])
    return rows
