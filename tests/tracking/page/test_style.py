"""Colours of `page.css`, light and dark: what is read stands out from its ground (WCAG 2)."""

import re
from pathlib import Path

import pytest

STYLE = Path("lit_vdistill/tracking/page/page.css").read_text()
LIGHT, DARK = (
    {
        name: tuple(int(colour[i : i + 2], 16) for i in (0, 2, 4))
        for name, colour in re.findall(r"--([\w-]+): #([0-9a-f]{6});", part)
    }
    for part in STYLE.partition("* { box-sizing")[0].split("@media")
)
SCHEMES = pytest.mark.parametrize("colours", [LIGHT, LIGHT | DARK], ids=["light", "dark"])


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in
              (channel / 255 for channel in colour)]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_is_wcags():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21.0)


def test_dark_has_every_colour_of_its_own():
    assert LIGHT.keys() == DARK.keys()
    assert all(LIGHT[name] != DARK[name] for name in LIGHT)


@SCHEMES
def test_texts_can_be_read(colours):
    for name in ("ink", "quiet", "true", "bad", *(f"s{i}" for i in range(1, 7))):
        for ground in ("paper", "panel"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["ink"], colours["mark"]) >= 4.5


@SCHEMES
@pytest.mark.parametrize("side", ["for", "against"])
def test_tokens_can_be_read_at_every_share_of_a_colour(colours, side):
    for share in range(0, 101, 5):
        mixed = [
            paper + (full - paper) * share / 100
            for full, paper in zip(colours[side], colours["paper"], strict=True)
        ]
        assert contrast(colours["ink"], mixed) >= 4.5
