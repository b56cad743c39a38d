import av
import numpy as np
import pytest

from experiments.clips import CLIPS, Clip, cut_without_decoding, write_clip
from lit_vdistill.media.containers import open_video, read_timeline


def timeline(path):
    with open_video(str(path)) as (container, stream):
        return read_timeline(container, stream)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.avi", "vfr.mkv", "late.ts", "one_frame.avi"])
def test_times_are_those_of_the_packets(clip, name):
    read, known = timeline(clip(name)), CLIPS[name].times_s()
    times_s = [read.time_s(tick) for tick in read.ticks]
    assert times_s == pytest.approx([time_s - known[0] for time_s in known], abs=0.0011)
    assert read.is_by_order == name.endswith(".avi")


def test_what_misleads_decoders_is_seen(clip, tmp_path):
    assert timeline(clip("hevc.mp4")).has_early_pictures
    assert timeline(clip("mpeg2.mxf")).has_early_pictures
    plain = timeline(clip("h264.mp4"))
    assert (plain.has_early_pictures, plain.has_hidden_pictures) == (False, False)
    cut_without_decoding(clip("h264.mp4"), tmp_path / "cut.mp4", 0.6)
    assert timeline(tmp_path / "cut.mp4").has_hidden_pictures


def test_the_key_frame_before_a_time(clip):
    read = timeline(clip("h264.mp4"))
    frames = {tick: i for i, tick in enumerate(read.ticks)}
    assert [frames[key] for key in read.keys] == [0, 12, 24, 36]
    assert [frames[read.key_before(read.ticks[i])] for i in (0, 11, 12, 39)] == [0, 0, 12, 36]
    assert read.key_before(read.ticks[0] - 1) is None


def test_video_that_starts_behind_the_sound_keeps_its_start(tmp_path):
    """Players count from the sound's start, and so did who wrote the annotations."""
    path = tmp_path / "behind.mkv"
    write_clip(tmp_path / "video.mkv", Clip("matroska", "libx264", count=5, start_s=0.4))
    with av.open(str(tmp_path / "video.mkv")) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        sound = target.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        silence.sample_rate, silence.pts = 8000, 0
        target.mux(sound.encode(silence))
        for packet in source.demux(source.streams.video[0]):
            if packet.pts is not None:
                packet.stream = video
                target.mux(packet)
    read = timeline(path)
    assert [read.time_s(t) for t in read.ticks] == pytest.approx([0.4, 0.44, 0.48, 0.52, 0.56])


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 8000, 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    with pytest.raises(ValueError, match="the file holds no video"):
        timeline(tmp_path / "sound.mp4")
