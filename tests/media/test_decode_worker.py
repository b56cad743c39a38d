"""Every clip tells its number in its pictures: what is read must be those of the times claimed."""

import os
import sys

import numpy as np
import pytest

from experiments.clips import (
    CLIPS,
    Clip,
    cut_without_decoding,
    hold_every_picture,
    read_number,
    write_clip,
)
from lit_vdistill.media import decode_worker, decord_frames, pyav_frames
from lit_vdistill.media.containers import DamagedError
from lit_vdistill.media.frames import FramePlan
from lit_vdistill.media.pictures import Limits

ANY_SIZE = Limits(factor=1, max_pixels=10**6)
FEW = [
    *("h264.mp4", "h264.avi", "h264.ts", "hevc.mp4", "mpeg4.avi", "mpeg2.vob", "mpeg2.ts"),
    *("wmv2.wmv", "av1.webm", "vfr.webm", "late.mkv", "told_25_fps.mp4", "one_frame.mp4"),
    *("rotated_90.mp4", "wide_pixels.mpg"),
]
"""Those of which decord alone read wrong pictures or times, and a few of each other kind."""


def read(path, num_frames=8, decoder="auto", limits=ANY_SIZE):
    return decode_worker.read_video(str(path), FramePlan(num_frames), limits, decoder)


def assert_true(reading, name, num_frames):
    """The pictures are evenly spaced ones of the clip, each at its time."""
    clip = CLIPS[name]
    numbers = [read_number(frame) for frame in reading.frames]
    count = min(num_frames, clip.count)
    assert numbers == [round(i) for i in np.linspace(0, clip.count - 1, count)]
    times_s = clip.times_s()
    # mkv and flv keep milliseconds.
    expected = [times_s[i] - times_s[0] for i in numbers]
    assert reading.times_s == pytest.approx(expected, abs=0.0011)
    whole_s = (times_s[-1] - times_s[0]) * clip.count / max(1, clip.count - 1)
    assert reading.length_s == pytest.approx(whole_s, abs=0.01)


@pytest.mark.parametrize("decoder", ["auto", "decord"])
@pytest.mark.parametrize("name", FEW)
def test_pictures_are_those_of_their_times(clip, name, decoder):
    reading, backend, reasons = read(clip(name), decoder=decoder)
    assert_true(reading, name, 8)
    if decoder == "auto":
        assert (backend, reasons) == ("pyav", [])


@pytest.mark.matrix
@pytest.mark.parametrize("num_frames", [1, 2, 8, 39, 64])
@pytest.mark.parametrize("decoder", ["auto", "decord"])
@pytest.mark.parametrize("name", CLIPS)
def test_pictures_are_those_of_their_times_in_the_whole_corpus(clip, name, decoder, num_frames):
    reading, backend, _ = read(clip(name), num_frames, decoder)
    assert_true(reading, name, num_frames)
    if decoder == "auto":
        assert backend == "pyav"


@pytest.mark.parametrize("containers", [pyav_frames.SEEKABLE, ()])
def test_an_empty_packet_shows_the_picture_before_it(tmp_path, monkeypatch, containers):
    """Theora has them where nothing changes; no decoder takes one."""
    monkeypatch.setattr(pyav_frames, "SEEKABLE", containers)
    path, keys = tmp_path / "held.nut", Clip("nut", "ffv1", options={"g": "1"})
    write_clip(tmp_path / "keys.nut", keys)
    hold_every_picture(tmp_path / "keys.nut", path)
    reading, _, reasons = read(path, 64)
    assert reasons == []
    assert [read_number(frame) for frame in reading.frames] == list(range(0, 40, 2))
    assert reading.times_s == pytest.approx(keys.times_s()[::2], abs=0.0011)


@pytest.mark.matrix
@pytest.mark.parametrize("name", CLIPS)
def test_decoding_in_order_finds_the_same_as_jumping(clip, name, monkeypatch):
    jumped, _, _ = read(clip(name))
    monkeypatch.setattr(pyav_frames, "SEEKABLE", ())
    walked, _, _ = read(clip(name))
    assert walked.times_s == jumped.times_s
    assert np.array_equal(walked.frames, jumped.frames)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("h264.avi", "decord: decord has -3.68935e+17 s for the picture at 0.24 s"),
        ("hevc.mp4", "loses pictures that show before the key frame"),
        ("h264.ts", "misreads this kind of container"),
        ("mpeg2.vob", "misreads this kind of container"),
    ],
)
def test_what_decord_misreads_is_read_with_pyav_and_said(clip, name, reason):
    reading, backend, (said,) = read(clip(name), decoder="decord")
    assert backend == "pyav"
    assert_true(reading, name, 8)
    assert reason in said


@pytest.mark.parametrize("name", ["h264.mp4", "vp9.webm", "rotated_90.mp4", "wide_pixels.mp4"])
def test_both_decoders_give_the_same_bits(clip, name):
    ours, _, _ = read(clip(name))
    theirs, backend, reasons = read(clip(name), decoder="decord")
    if backend != "decord":  # some machines' decord cannot turn pictures by a quarter
        assert name == "rotated_90.mp4"
        assert "not of three colours" in reasons[0]
    assert theirs.times_s == ours.times_s
    assert np.array_equal(theirs.frames, ours.frames)


@pytest.mark.parametrize("source", ["h264.mp4", "h264_one_key.mp4"])
def test_a_cut_by_stream_copy_shows_what_players_show(clip, tmp_path, source):
    """An edit list hides the pictures between the key frame and the cut."""
    cut_without_decoding(clip(source), tmp_path / "cut.mp4", 0.6)
    for decoder in ("auto", "decord"):
        reading, backend, _ = read(tmp_path / "cut.mp4", 5, decoder)
        assert [read_number(frame) for frame in reading.frames] == [15, 21, 27, 33, 39]
        assert reading.times_s == pytest.approx([0.0, 0.24, 0.48, 0.72, 0.96])
        assert backend == "pyav"


def test_pictures_stand_up_on_square_pixels(clip):
    shapes = {
        "rotated_90.mp4": (128, 96),
        "rotated_180.mov": (96, 128),
        "wide_pixels.mp4": (96, 171),
        "tall_pixels.mkv": (96, 114),
    }
    for name, shape in shapes.items():
        reading, _, _ = read(clip(name))
        assert reading.frames.shape[1:3] == shape
        assert_true(reading, name, 8)


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "mpeg4.avi", "h264.flv"])
def test_a_file_that_is_cut_off_is_left_out(clip, tmp_path, name):
    whole = clip(name).read_bytes()
    if name == "h264.mp4":
        import av

        # The index first, as on the web: without it nothing can be read at all.
        with (
            av.open(str(clip(name))) as source,
            av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as target,
        ):
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        whole = (tmp_path / "fast.mp4").read_bytes()
    header = whole.rindex({"mp4": b"mdat", "avi": b"movi"}.get(name[-3:], whole[:4]))
    (tmp_path / name).write_bytes(whole[: header + (len(whole) - header) // 2])
    for decoder in ("auto", "decord"):
        with pytest.raises(ValueError, match=r"cut off: pictures end at \d\.\d\d of 1\.\d\d s"):
            read(tmp_path / name, decoder=decoder)


def test_damaged_pictures_are_not_shown(clip, tmp_path):
    """Decoders hide what is missing behind the picture before; the frames from there on are out."""
    raw = bytearray(clip("h264_one_key.mp4").read_bytes())
    middle = raw.index(b"mdat") + 4 + (len(raw) - raw.index(b"mdat")) // 3
    raw[middle : middle + 60] = bytes(255 - byte for byte in raw[middle : middle + 60])
    path = tmp_path / "damaged.mp4"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="is damaged|Invalid data"):
        read(path, 40)


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile {}\n"
DASH = "<MPD><Period><AdaptationSet><BaseURL>{}</BaseURL></AdaptationSet></Period></MPD>"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"


@pytest.mark.parametrize("text", [PLAYLIST, CONCAT, DASH, SDP])
@pytest.mark.parametrize("suffix", [".m3u8", ".ffconcat", ".mp4", ".mpd", ".sdp"])
@pytest.mark.parametrize("decoder", ["auto", "decord"])
def test_files_that_name_other_files_are_not_opened(
    clip, tmp_path, text, suffix, decoder, monkeypatch
):
    monkeypatch.setitem(sys.modules, "decord", None)
    os.link(clip("h264.ts"), tmp_path / "secret.ts")
    path = tmp_path / f"list{suffix}"
    path.write_text(text.format("secret.ts"))
    with pytest.raises(ValueError, match="not one of the containers that are read"):
        read(path, decoder=decoder)


def test_decord_takes_over_where_pyav_fails(clip, monkeypatch):
    def fail(*args):
        raise LookupError("no decoder for it")

    monkeypatch.setattr(pyav_frames, "read_frames", fail)
    reading, backend, reasons = read(clip("h264.mp4"))
    assert (backend, reasons) == ("decord", ["pyav: LookupError: no decoder for it"])
    assert_true(reading, "h264.mp4", 8)
    with pytest.raises(ValueError, match="^pyav: LookupError: no decoder for it$"):
        read(clip("h264.mp4"), decoder="pyav")
    monkeypatch.setattr(decord_frames, "read_frames", fail)
    with pytest.raises(ValueError, match="^pyav: LookupError.*; decord: LookupError"):
        read(clip("h264.mp4"))


def test_a_damaged_file_is_not_given_to_the_other_decoder(clip, monkeypatch):
    def fail(*args):
        raise DamagedError("the picture at 1.00 s is damaged")

    monkeypatch.setattr(pyav_frames, "read_frames", fail)
    with pytest.raises(ValueError, match="^the picture at 1.00 s is damaged$"):
        read(clip("h264.mp4"))


def test_decord_walks_where_it_would_give_up(tmp_path):
    """Its own skipping shows another picture, without an error, when the key frame is far."""
    options = {"preset": "ultrafast", "g": "9999", "x264-params": "scenecut=0:log-level=none"}
    clip = Clip("mp4", "libx264", count=3000, options=options, size=(64, 32))
    write_clip(tmp_path / "far.mp4", clip)
    reading, backend, _ = read(tmp_path / "far.mp4", 4, "decord")
    assert backend == "decord"
    assert [read_number(frame) for frame in reading.frames] == [0, 1000, 1999, 2999]


def test_large_frames_do_not_pile_up(clip, monkeypatch):
    """Each picture is made small before the next one is asked for."""
    shaped = []
    monkeypatch.setattr(
        pyav_frames.Shaper, "shape", lambda self, picture, turn: shaped.append(1) or picture[:2]
    )
    decoding = pyav_frames._whole

    def count(frame, is_whole, time_s):
        asked.append(len(shaped))
        return decoding(frame, is_whole, time_s)

    asked = []
    monkeypatch.setattr(pyav_frames, "_whole", count)
    read(clip("h264.mp4"), 5)
    assert asked == [0, 1, 2, 3, 4]
