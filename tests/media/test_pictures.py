from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from lit_vdistill.media.pictures import Limits, Turn, fit_size, read_image, resize, stand_up

ANY_SIZE = Limits(factor=1, max_pixels=10**6)


@pytest.mark.parametrize("max_pixels", [784, 30_000, 105_369])
@pytest.mark.parametrize("factor", [1, 28])
@pytest.mark.parametrize(
    "size",
    [(1920, 1080), (10, 500), (640, 360), (28, 28), (1, 1), (324, 324), (50, 10_000), (8000, 40)],
)
def test_sizes_are_multiples_within_the_budget(size, factor, max_pixels):
    width, height = fit_size(*size, Limits(factor, max_pixels))
    assert width % factor == height % factor == 0
    assert min(width, height) >= factor
    assert width * height <= max_pixels


def test_the_ratio_is_kept_where_it_can_be():
    assert fit_size(1920, 1080, Limits(28, 105_369)) == (420, 224)
    assert fit_size(640, 360, Limits(28, 10**6)) == (644, 364)
    assert fit_size(20_000, 100, Limits(28, 105_369)) == (134 * 28, 28)


VISD = Limits(factor=28, max_pixels=105_369, min_pixels=100_352)
"""Of a frame in VISD's release."""


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # 1.32 times as large is 422.4 x 237.6, up to 16 x 9 squares: over the limit by ten.
        ((320, 180), (448, 252)),
        ((28, 28), (336, 336)),
        ((308, 308), (336, 336)),
        ((336, 308), (336, 308)),
        ((336, 336), (308, 308)),  # 144 squares where 134 may be, as in the release
        ((1920, 1080), (420, 224)),
        ((364, 280), (364, 280)),
    ],
)
def test_small_pictures_are_scaled_up(size, expected):
    assert fit_size(*size, VISD) == expected


@pytest.mark.parametrize(
    "limits", [VISD, Limits(28, 200_704, 3_136), Limits(32, 9216), Limits(2, 99, 50)]
)
def test_no_picture_has_more_squares_than_the_most(limits):
    seen = 0
    for width in range(1, 400, 3):
        for height in range(1, 400, 7):
            if max(width, height) <= 200 * min(width, height):
                fitted = fit_size(width, height, limits)
                seen = max(seen, fitted[0] * fitted[1] // limits.factor**2)
    assert limits.most_tiles() / 3 <= seen <= limits.most_tiles()


def test_needles_are_refused():
    with pytest.raises(ValueError, match="2010x10 pixels: a side is over 200 times the other"):
        fit_size(2010, 10, Limits(28, 105_369))


def test_pictures_are_turned_as_their_matrix_says():
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    turned = {
        Turn(): [[0, 1, 2], [3, 4, 5]],
        Turn(is_mirrored=True): [[2, 1, 0], [5, 4, 3]],
        Turn(is_upended=True): [[3, 4, 5], [0, 1, 2]],
        Turn(is_transposed=True): [[0, 3], [1, 4], [2, 5]],
        Turn(True, is_mirrored=True): [[3, 0], [4, 1], [5, 2]],
    }
    for turn, expected in turned.items():
        assert stand_up(stored, turn)[:, :, 0].tolist() == expected


def test_a_video_whose_size_changes_keeps_that_of_its_first_frame():
    picture = np.zeros((40, 80, 3), np.uint8)
    assert resize(picture, Fraction(3, 2), ANY_SIZE, None).shape == (40, 120, 3)
    assert resize(picture, Fraction(3, 2), ANY_SIZE, (60, 30)).shape == (30, 60, 3)


def write_image(path, mode):
    """Left half dark, right half bright: grey 64 and 192 of 255."""
    levels = np.repeat([[64, 192]], 2, axis=0).astype(np.uint8)
    grey = Image.fromarray(levels)
    if mode == "I;16":
        grey = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode == "I":
        grey = Image.fromarray(levels.astype(np.int32) * 257)
    elif mode != "L":
        grey = grey.convert("RGB").convert(mode)
    grey.save(path)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "png"), ("RGB", "png"), ("P", "png"), ("I;16", "png"), ("I;16", "tiff"),
        ("I", "tiff"), ("CMYK", "tiff"), ("CMYK", "jpg"), ("LA", "png"), ("RGBA", "webp"),
        ("YCbCr", "jpg"),
    ],
)  # fmt: skip
def test_every_mode_gives_true_pictures(tmp_path, mode, suffix):
    write_image(tmp_path / f"i.{suffix}", mode)
    pixels = read_image(str(tmp_path / f"i.{suffix}"), ANY_SIZE)
    assert pixels.shape == (1, 2, 2, 3)
    assert pixels.dtype == np.uint8
    assert abs(pixels[0].mean(axis=(0, 2)) - [64, 192]).max() < 14


def test_sixteen_bits_of_colour(tmp_path):
    """Pillow cannot write such a file, PyAV can."""
    import av

    levels = np.repeat(np.array([[[16000, 32000, 48000]]], np.uint16), 4, axis=0).repeat(4, axis=1)
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 4, 4, "rgb48be"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(levels, format="rgb48be")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    (tmp_path / "deep.png").write_bytes(b"".join(bytes(packet) for packet in packets))
    pixels = read_image(str(tmp_path / "deep.png"), ANY_SIZE)
    assert abs(pixels[0, 0, 0].astype(int) - [62, 125, 187]).max() <= 1


def test_transparency_is_white(tmp_path):
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 255, 255))
    clear.save(tmp_path / "a.png")
    clear.quantize().save(tmp_path / "p.png")
    opaque = Image.new("P", (2, 1), 1)
    opaque.putpalette([255, 0, 0, 0, 0, 255])
    opaque.putpixel((1, 0), 0)
    opaque.save(tmp_path / "t.png", transparency=0)
    for name in ("a.png", "p.png", "t.png"):
        pixels = read_image(str(tmp_path / name), ANY_SIZE)
        assert pixels[0, 0].tolist() == [[0, 0, 255], [255, 255, 255]]


def test_a_camera_held_upright(tmp_path):
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "i.jpg", exif=exif)
    assert read_image(str(tmp_path / "i.jpg"), ANY_SIZE).shape == (1, 4, 2, 3)


def test_pixels_of_no_known_range_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(ValueError, match="floating-point"):
        read_image(str(tmp_path / "f.tiff"), ANY_SIZE)
    Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(tmp_path / "i.tiff")
    with pytest.raises(ValueError, match="32-bit"):
        read_image(str(tmp_path / "i.tiff"), ANY_SIZE)


def test_formats_that_start_programs_are_not_images(tmp_path):
    (tmp_path / "i.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(OSError, match="cannot identify image file"):
        read_image(str(tmp_path / "i.png"), ANY_SIZE)
