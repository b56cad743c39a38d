"""Charts as SVG within the page: drawn by matplotlib, coloured and lettered by `page.css`.

matplotlib draws in stand-in colours, which become the page's variables, so that a chart is light
or dark as the page is. Text stays text. What a chart shows is also told in words, to who cannot see
it.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from lit_vdistill.tracking.page.film import NUM_SERIES
from lit_vdistill.tracking.page.render import clean

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_WIDTH_PX, _DPI = 480, 72
_LONGEST = 26
"""Characters of a label; what is longer ends in an ellipsis: the table beside it has it whole."""
_MARKERS = "os^Dvp"
_DASHES = ("-", (0, (6, 2)), (0, (2, 2)), (0, (6, 2, 2, 2)), (0, (1, 1)), (0, (9, 3)))
_INK, _QUIET, _LINE = "#000101", "#000102", "#000103"
_SERIES = tuple(f"#0002{i + 1:02}" for i in range(NUM_SERIES))
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _LINE: "--line"} | {
    colour: f"--s{i + 1}" for i, colour in enumerate(_SERIES)
}
_COLOUR = re.compile("|".join(_VARIABLES))
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "page", "text.parse_math": False, "font.size": 12,
    "axes.edgecolor": _LINE, "axes.labelcolor": _QUIET, "xtick.color": _QUIET,
    "ytick.color": _INK, "grid.color": _LINE, "text.color": _INK, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip


class Interval(NamedTuple):
    """A figure with its interval: `Interval(0.41, 0.37, 0.45)`; without one low and high are None.

    What has no value has None for all three.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """In words."""
        if self.value is None:
            return "none"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}, no interval"
        return f"{self.value:.3f}, {self.low:.3f} to {self.high:.3f}"


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart: `Curve("guessing", (1, 2, 4), (0.25, 0.4, 0.6))`."""

    name: str
    x: Sequence[int | float]
    y: Sequence[float | None]
    """None where nothing is known: the line has a gap there."""
    low: Sequence[float | None] | None = None
    """Lower edge of its band; None = no band."""
    high: Sequence[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with the names of its series, in the order of their colours."""

    svg: Markup
    names: tuple[str, ...]
    title: str


def intervals(title: str, rows: Sequence[str], series: Mapping[str, Sequence[Interval]]) -> Chart:
    """A row a quantity, and in it a mark with its interval a series; hollow where it has none.

    Args:
        title: What is shown, with its unit.
        rows: Names of the quantities, from the top.
        series: By name, a figure a row.
    """

    def draw(axes: Axes) -> None:
        for index, place, (value, low, high) in _placed(series, 0.7):
            if value is None:
                continue
            colour, ground = _SERIES[index], "none"
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=colour, linewidth=2)
                ground = colour
            axes.plot(
                [value], [place], color=colour, marker=_MARKERS[index], markersize=6.5,
                markerfacecolor=ground,
            )  # fmt: skip
        _name_rows(axes, rows)

    height = 46 + len(rows) * max(26, 14 * len(series))
    return _chart(title, draw, height, series, _told(rows, series))


def bars(title: str, rows: Sequence[str], series: Mapping[str, Sequence[Interval]]) -> Chart:
    """Grouped bars from 0, a group a row, each with its interval where it has one.

    Args:
        title: What is shown, with its unit.
        rows: Names of the groups, from the top.
        series: By name, a figure a group.
    """

    def draw(axes: Axes) -> None:
        thickness = 0.65 / max(len(series), 1)
        for index, place, (value, low, high) in _placed(series, 0.76):
            if value is None:
                continue
            axes.barh([place], [value], height=thickness, color=_SERIES[index], alpha=0.55)
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=_INK, linewidth=1.4)
        axes.axvline(0, color=_QUIET, linewidth=1)
        _name_rows(axes, rows)

    height = 46 + len(rows) * max(22, 14 * len(series) + 8)
    return _chart(title, draw, height, series, _told(rows, series))


def _placed(
    series: Mapping[str, Sequence[Interval]], breadth: float
) -> Iterator[tuple[int, float, Interval]]:
    """Number of the colour, height and figure: the series of a row one below another."""
    for index, found in enumerate(series.values()):
        shift = (index - (len(series) - 1) / 2) * breadth / len(series)
        for row, interval in enumerate(found):
            yield index % NUM_SERIES, row + shift, interval


def _name_rows(axes: Axes, rows: Sequence[str]) -> None:
    axes.set_yticks(range(len(rows)), [_short(row) for row in rows])
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def lines(title: str, x_name: str, curves: Sequence[Curve], *, is_log: bool = False) -> Chart:
    """Curves over one axis, each with its band where it has one.

    Args:
        title: What the height is, with its unit.
        x_name: What the axis counts.
        curves: In the order of their colours.
        is_log: Whether each doubling is as wide as the other, with marks where the curves have
            points.
    """

    def draw(axes: Axes) -> None:
        for index, curve in enumerate(curves):
            colour = _SERIES[index % NUM_SERIES]
            gaps = [float("nan") if value is None else value for value in curve.y]
            axes.plot(
                curve.x, gaps, color=colour, linestyle=_DASHES[index % NUM_SERIES], linewidth=2,
                marker=_MARKERS[index % NUM_SERIES] if len(gaps) <= 20 else None, markersize=5,
            )  # fmt: skip
            if curve.low is not None and curve.high is not None:
                edges = [
                    (x, low, high)
                    for x, low, high in zip(curve.x, curve.low, curve.high, strict=True)
                    if low is not None and high is not None
                ]
                axes.fill_between(
                    [x for x, _, _ in edges], [low for _, low, _ in edges],
                    [high for _, _, high in edges], color=colour, alpha=0.16, linewidth=0,
                )  # fmt: skip
        if is_log:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(sorted({x for c in curves for x in c.x})))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel(clean(x_name))
        axes.grid(axis="y", linewidth=0.8)

    told = "; ".join(f"{curve.name}: {_ends(curve)}" for curve in curves)
    return _chart(title, draw, 260, [curve.name for curve in curves], told)


def _ends(curve: Curve) -> str:
    known = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]
    if not known:
        return "no points"
    (first, start), (last, end) = known[0], known[-1]
    return f"{start:.3f} at {first:g}, {end:.3f} at {last:g}"


def _told(rows: Sequence[str], series: Mapping[str, Sequence[Interval]]) -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{row} {found}" for row, found in zip(rows, among, strict=True))
        for name, among in series.items()
    )


def _chart(
    title: str, draw: Callable[[Axes], None], height_px: int, names: Sequence[str] | Mapping,
    told: str,
) -> Chart:  # fmt: skip
    file = io.BytesIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        # The browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH_PX / _DPI, height_px / _DPI), layout="constrained")
        draw(figure.add_subplot())
        figure.savefig(
            file, format="svg", dpi=_DPI, transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )  # fmt: skip
    return Chart(_within_page(file.getvalue(), f"{title}. {told}"), tuple(names), title)


def _within_page(svg: bytes, told: str) -> Markup:
    """The picture as a part of a page: no style of its own, no id that another has."""
    root = ET.fromstring(svg)
    parents = {child: parent for parent in root.iter() for child in parent}
    for element in list(root.iter()):
        if element.tag in (f"{{{_SVG}}}style", f"{{{_SVG}}}metadata"):
            parents[element].remove(element)
    told = clean(told)
    prefix = blake2b(svg + told.encode(), digest_size=4).hexdigest()
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            element.attrib[name] = _attribute(name, value, prefix)
        if _XLINK in element.attrib:
            element.set("href", element.attrib.pop(_XLINK))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "chart", "role": "img", "aria-label": told}
    ET.register_namespace("", _SVG)
    return Markup(ET.tostring(root, encoding="unicode"))


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"c{prefix}-{value}"
    if name == "style":
        value = _COLOUR.sub(lambda found: f"var({_VARIABLES[found.group()]})", value)
    elif name == _XLINK:
        return value.replace("#", f"#c{prefix}-", 1)
    return value.replace("url(#", f"url(#c{prefix}-")


def _short(label: str) -> str:
    label = clean(" ".join(label.split()))
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
