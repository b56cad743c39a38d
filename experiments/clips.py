"""Short clips whose pictures say which frame they are, in every container and codec in use.

The number of a frame is written into its picture as black and white blocks, below them the same
blocks inverted: any codec keeps them, and a picture that is damaged, turned or mixed from two
frames does not read as a number. `tests/media` reads them, and `experiments.decoders` times them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 16
PERIODS_MS = (40, 40, 80, 20, 200)
"""Gaps of a clip of variable frame rate, over and over."""


@dataclass(frozen=True)
class Clip:
    """How a clip is written."""

    format: str
    """The muxer."""
    codec: str
    """The encoder."""
    count: int = 40
    """Frames."""
    options: dict[str, str] = field(default_factory=dict)
    """Of the encoder: `bf` B-frames, `g` frames from key frame to key frame."""
    pix_fmt: str = "yuv420p"
    """Layout of the pixels."""
    size: tuple[int, int] = (128, 96)
    """Width and height as stored."""
    rate: int = 25
    """Frames a second."""
    is_variable: bool = False
    """Whether the gaps between frames are `PERIODS_MS`."""
    start_s: float = 0.0
    """When the first frame shows."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height."""
    rotation: int = 0
    """Counterclockwise degrees by which a player has to turn the stored picture."""
    told_rate: int | None = None
    """Frames a second that the container is told where they are not `rate`."""

    def numbers(self) -> Iterator[np.ndarray]:
        """The pictures as they are stored, each telling which one it is."""
        turns = self.rotation // 90
        for i in range(self.count):
            yield np.rot90(picture(i, self.size[:: -1 if turns % 2 else 1]), -turns)

    def times_s(self) -> list[float]:
        """When each frame shows."""
        if not self.is_variable:
            return [self.start_s + i / self.rate for i in range(self.count)]
        gaps = [PERIODS_MS[i % len(PERIODS_MS)] for i in range(self.count)]
        return [self.start_s + sum(gaps[:i]) / 1000 for i in range(self.count)]


def picture(number: int, size: tuple[int, int] = (128, 96)) -> np.ndarray:
    """The picture of a frame, `[height, width, 3]`: its number, its inverse, a moving bar."""
    width, height = size
    bits = np.array([number >> i & 1 for i in range(BITS)], dtype=np.uint8)
    row = np.repeat(np.where(bits, 225, 30).astype(np.uint8), -(-width // BITS))[:width]
    third = height // 3
    grey = np.full((height, width), 128, np.uint8)
    grey[:third], grey[third : 2 * third] = row, 255 - row
    place = number * 5 % width
    grey[2 * third :, place : place + width // 8] = 220
    return np.repeat(grey[:, :, None], 3, axis=2)


def read_number(frame: np.ndarray) -> int:
    """The number in a picture of any size.

    Raises:
        ValueError: When the picture holds no clean number.
    """
    height, width = frame.shape[:2]
    grey = frame.astype(float).mean(axis=2)
    rows = [
        slice(int(height * low), int(height * high)) for low, high in ((0.1, 0.25), (0.42, 0.58))
    ]
    blocks = [
        [
            grey[row, int((i + 0.3) * width / BITS) : int((i + 0.7) * width / BITS) + 1].mean()
            for i in range(BITS)
        ]
        for row in rows
    ]
    upper, lower = np.array(blocks)
    if (abs(upper - lower) < 90).any():
        raise ValueError(f"no number can be read: {upper.round()} over {lower.round()}")
    return sum(1 << i for i in range(BITS) if upper[i] > lower[i])


def write_clip(path: Path, clip: Clip, pictures: Iterable[np.ndarray] | None = None) -> None:
    """Encode a clip; `pictures` stand in for those that tell their numbers."""
    with av.open(str(path), "w", format=clip.format) as container:
        stream = container.add_stream(
            clip.codec, rate=clip.told_rate or clip.rate, options=clip.options
        )
        stream.width, stream.height = clip.size
        stream.pix_fmt = clip.pix_fmt
        stream.codec_context.sample_aspect_ratio = clip.pixel_aspect
        clock = Fraction(1, 1000 if clip.is_variable else clip.rate)
        stream.codec_context.time_base = clock
        if clip.rotation:
            stream.set_display_rotation(clip.rotation)
        for image, time_s in zip(pictures or clip.numbers(), clip.times_s(), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base, frame.pts = clock, round(time_s / clock)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut_without_decoding(source: Path, target: Path, start_s: float) -> None:
    """Copy the packets from the key frame before a time on; an edit list hides the surplus."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copied = written.add_stream_from_template(stream)
        start = round(start_s / stream.time_base)
        read.seek(start, stream=stream)
        for packet in read.demux(stream):
            if packet.dts is None:
                continue
            packet.pts -= start
            packet.dts -= start
            packet.stream = copied
            written.mux(packet)


def hold_every_picture(source: Path, target: Path) -> None:
    """Copy a clip of key frames; each shows twice as long, by a packet that holds nothing."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copied = written.add_stream_from_template(stream)
        packets = [packet for packet in read.demux(stream) if packet.dts is not None]
        for packet, held in zip(packets[::2], packets[1::2], strict=True):
            empty = av.Packet(0)
            empty.pts, empty.dts, empty.time_base = held.pts, held.dts, held.time_base
            for part in (packet, empty):
                part.stream = copied
                written.mux(part)


_B = {"bf": "2", "g": "12"}
_X264 = _B | {"preset": "fast", "x264-params": "log-level=none"}
_X265 = {"preset": "fast", "x265-params": "bframes=3:keyint=12:log-level=none"}
_VPX = {
    "deadline": "realtime",
    "cpu-used": "4",
    "g": "12",
    "auto-alt-ref": "1",
    "lag-in-frames": "12",
}
_AV1 = {"preset": "12", "svtav1-params": "keyint=12"}

CLIPS: dict[str, Clip] = {
    "h264.mp4": Clip("mp4", "libx264", options=_X264),
    "h264.mov": Clip("mov", "libx264", options=_X264),
    "h264.mkv": Clip("matroska", "libx264", options=_X264),
    "h264.flv": Clip("flv", "libx264", options=_X264),
    "h264.avi": Clip("avi", "libx264", options=_X264),
    "h264.ts": Clip("mpegts", "libx264", options=_X264),
    "h264.3gp": Clip("3gp", "libx264", options=_X264),
    "h264_open_gop.mp4": Clip(
        "mp4", "libx264", options=_X264 | {"x264-params": "open-gop=1:scenecut=0:log-level=none"}
    ),
    "h264_refresh.ts": Clip(
        "mpegts", "libx264", options=_X264 | {"x264-params": "intra-refresh=1:log-level=none"}
    ),
    "h264_one_key.mp4": Clip("mp4", "libx264", options=_X264 | {"g": "1000"}),
    "h264_444.mkv": Clip("matroska", "libx264", options=_X264, pix_fmt="yuv444p"),
    "hevc.mp4": Clip("mp4", "libx265", options=_X265),
    "hevc.mkv": Clip("matroska", "libx265", options=_X265),
    "hevc.ts": Clip("mpegts", "libx265", options=_X265),
    "av1.mp4": Clip("mp4", "libsvtav1", options=_AV1),
    "av1.webm": Clip("webm", "libsvtav1", options=_AV1),
    "vp8.webm": Clip("webm", "libvpx", options=_VPX),
    "vp9.webm": Clip("webm", "libvpx-vp9", options=_VPX),
    "vp9.mp4": Clip("mp4", "libvpx-vp9", options=_VPX),
    "vp8.ivf": Clip("ivf", "libvpx", options=_VPX),
    "mpeg4.mp4": Clip("mp4", "mpeg4", options=_B),
    "mpeg4.avi": Clip("avi", "mpeg4", options=_B),
    "mpeg2.mpg": Clip("mpeg", "mpeg2video", options=_B),
    "mpeg2.vob": Clip("vob", "mpeg2video", options=_B),
    "mpeg2.ts": Clip("mpegts", "mpeg2video", options=_B),
    "mpeg2.mxf": Clip("mxf", "mpeg2video", options=_B),
    "mpeg1.mpg": Clip("mpeg", "mpeg1video", options=_B),
    "wmv2.wmv": Clip("asf", "wmv2", options={"g": "12"}),
    "msmpeg4.avi": Clip("avi", "msmpeg4", options={"g": "12"}),
    "flv1.flv": Clip("flv", "flv", options={"g": "12"}),
    "h263.3gp": Clip("3gp", "h263", options={"g": "12"}),
    "mjpeg.avi": Clip("avi", "mjpeg", pix_fmt="yuvj420p"),
    "mjpeg.mov": Clip("mov", "mjpeg", pix_fmt="yuvj420p"),
    "ffv1.mkv": Clip("matroska", "ffv1"),
    "ffv1.nut": Clip("nut", "ffv1"),
    "prores.mov": Clip("mov", "prores_ks", pix_fmt="yuv422p10le"),
    "vp8.ogv": Clip("ogg", "libvpx", options=_VPX),
    "vp8_hidden.webm": Clip("webm", "libvpx", options=_VPX | {"deadline": "good"}),
    "gif.gif": Clip("gif", "gif", pix_fmt="rgb8", rate=20),
    "vfr.mp4": Clip("mp4", "libx264", options=_X264, is_variable=True),
    "vfr.mkv": Clip("matroska", "libx264", options=_X264, is_variable=True),
    "vfr.webm": Clip("webm", "libvpx-vp9", options=_VPX, is_variable=True),
    "told_25_fps.mp4": Clip("mp4", "libx264", options=_X264, rate=10, told_rate=25),
    "told_25_fps.mkv": Clip("matroska", "libx264", options=_X264, rate=10, told_rate=25),
    "late.mkv": Clip("matroska", "libx264", options=_X264, start_s=3.2),
    "late.ts": Clip("mpegts", "libx264", options=_X264, start_s=3.2),
    "one_frame.mp4": Clip("mp4", "libx264", count=1, options=_X264),
    "one_frame.avi": Clip("avi", "mpeg4", count=1, options=_B),
    "one_frame.webm": Clip("webm", "libvpx-vp9", count=1, options=_VPX),
    "rotated_90.mp4": Clip("mp4", "libx264", options=_X264, rotation=90),
    "rotated_180.mov": Clip("mov", "libx264", options=_X264, rotation=180),
    "rotated_270.mp4": Clip("mp4", "libx264", options=_X264, rotation=-90),
    "wide_pixels.mp4": Clip("mp4", "libx264", options=_X264, pixel_aspect=Fraction(4, 3)),
    "wide_pixels.mpg": Clip("mpeg", "mpeg2video", options=_B, pixel_aspect=Fraction(16, 11)),
    "tall_pixels.mkv": Clip("matroska", "libx264", options=_X264, pixel_aspect=Fraction(8, 9)),
}
"""The corpus; a file's name is its key."""
