import re
import xml.etree.ElementTree as ET

import pytest

from lit_vdistill.tracking.page.charts import Curve, Interval, bars, intervals, lines

HOSTILE = ["<script>alert(1)</script>", 'a "quote"', "line\u2028end", "half \ud83d", "\x00", "$x$",
           "视频", "x" * 300]  # fmt: skip
ROWS = ["accuracy", "mAM"]
FOUND = [Interval(0.5, 0.4, 0.6), Interval(0.25)]


def drawn(chart):
    return ET.fromstring(str(chart.svg))


@pytest.mark.parametrize("draw", [intervals, bars])
def test_figures_are_drawn_and_told(draw):
    root = drawn(draw("Scores", ROWS, {"a": FOUND, "b": [Interval(None), Interval(0.3, 0.2, 0.4)]}))
    told = root.get("aria-label")
    assert "a: accuracy 0.500, 0.400 to 0.600, mAM 0.250, no interval" in told
    assert "b: accuracy none, mAM 0.300, 0.200 to 0.400" in told
    assert {"accuracy", "mAM"} <= {element.text for element in root.iter()}


def test_colours_are_the_pages_and_no_style_leaks_out():
    svg = str(intervals("Scores", ROWS, {"a": FOUND, "b": FOUND}).svg)
    assert "var(--s1)" in svg
    assert "var(--s2)" in svg
    assert "#0001" not in svg
    assert "#0002" not in svg
    assert "<style" not in svg
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) <= {"#ffffff"}


def test_two_charts_on_a_page_share_no_id():
    one, other = (str(intervals(title, ROWS, {"a": FOUND}).svg) for title in ("x", "y"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((one, other), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= own


def test_a_figure_without_interval_is_hollow():
    full, hollow = (
        str(intervals("x", ["r"], {"a": [found]}).svg) for found in (FOUND[0], FOUND[1])
    )
    assert "fill: var(--s1)" in full
    assert "fill: var(--s1)" not in hollow
    assert "stroke: var(--s1)" in hollow


def test_curves_have_bands_gaps_and_an_axis_of_doublings():
    band = Curve("ours", [1, 2, 4], [0.2, 0.4, 0.6], [0.1, 0.3, None], [0.3, 0.5, None])
    guess = Curve("guessing", [1, 2, 4], [0.25, None, 0.7])
    root = drawn(lines("pass@k", "k", [band, guess, Curve("none", [1], [None])], is_log=True))
    told = root.get("aria-label")
    assert "ours: 0.200 at 1, 0.600 at 4" in told
    assert "guessing: 0.250 at 1, 0.700 at 4" in told
    assert "none: no points" in told
    assert {"1", "2", "4", "k"} <= {element.text for element in root.iter()}


def test_seven_series_have_colours_again():
    found = {f"r{i}": FOUND for i in range(7)}
    assert "var(--s6)" in str(bars("x", ROWS, found).svg)
    assert intervals("x", ROWS, found).names[6] == "r6"


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_are_text_whatever_they_hold(text):
    for chart in (
        intervals(text, [text], {text: FOUND[:1]}),
        lines(text, text, [Curve(text, [1.0], [2.0])]),
    ):
        root = drawn(chart)
        assert not [element for element in root.iter() if "script" in element.tag]
        str(chart.svg).encode()


def test_nothing_to_show_is_an_empty_chart():
    assert drawn(intervals("x", [], {})).get("role") == "img"
    assert drawn(lines("x", "k", [])).get("role") == "img"
