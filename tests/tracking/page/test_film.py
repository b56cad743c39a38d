import base64
import io

import numpy as np
import pytest
from PIL import Image

from lit_vdistill.tracking.page.film import DrawnBox, Film, series, thumbnail


@pytest.mark.parametrize(("width", "stored"), [(64, 64), (640, 320)])
def test_a_thumbnail_is_small_and_keeps_the_units_of_its_frame(width, stored):
    picture = thumbnail(np.full((width // 2, width, 3), 200, dtype=np.uint8))
    assert (picture.width, picture.height) == (width, width // 2)
    image = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
    assert image.format == "JPEG"
    assert image.size == (stored, stored // 2)


@pytest.mark.parametrize(
    ("box", "sides"), [((1.0, 2.0, 4.0, 8.0), ("3", "6")), ((4.0, 8.0, 1.0, 2.0), ("0", "0"))]
)
def test_an_inverted_box_has_no_sides(box, sides):
    place = DrawnBox("s1", "dog", box).place
    assert (place["width"], place["height"]) == sides


@pytest.mark.parametrize(
    ("time_s", "share"), [(0.0, 0.0), (2.0, 25.0), (8.0, 100.0), (1e9, 100.0), (-1.0, 0.0)]
)
def test_times_lie_on_the_line(time_s, share):
    assert Film((), 8.0).share(time_s) == pytest.approx(share)
    assert Film((), 0.0).share(time_s) == 0.0


def test_colours_begin_again():
    assert [series(i) for i in (0, 5, 6)] == ["s1", "s6", "s1"]
