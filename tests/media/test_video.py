import gc
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from lit_vdistill.media import decoder_process
from lit_vdistill.media.video import FrameConfig, MediaError, MediaReader
from lit_vdistill.types import Clip
from lit_vdistill.world.scenes import write_video

CONFIG = FrameConfig(max_frames=4)


def make_video(path, count=9, edge=64, fps=4):
    """Frame i is filled with grey level 8 i + 8, so that a decoded frame tells its index."""
    levels = (8 * np.arange(count) + 8).astype(np.uint8)
    write_video(
        path, np.broadcast_to(levels[:, None, None, None], (count, edge, edge, 3)).copy(), fps
    )


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "media"
    make_video(folder / "good.mp4")
    return folder


@pytest.fixture
def reader(root, tmp_path):
    return MediaReader(root, CONFIG, factor=32, cache_dir=tmp_path / "cache")


def test_frames_and_times_are_the_streams_own(reader):
    medium = reader.read("good.mp4", "video")
    assert medium.frames.shape == (4, 64, 64, 3)
    # linspace(0, 8, 4) rounded: 0, 3, 5, 8
    assert [round((frame.mean() - 8) / 8) for frame in medium.frames] == [0, 3, 5, 8]
    assert medium.times_s == (0.0, 0.75, 1.25, 2.0)


def test_short_videos_give_what_they_have(root, reader):
    make_video(root / "one.mp4", count=1)
    assert reader.read("one.mp4", "video").frames.shape[0] == 1


def test_the_cache_answers_without_the_decoder_and_notices_a_changed_file(reader, root):
    first = reader.read("good.mp4", "video")
    reader._decoder.decode = None
    again = reader.read("good.mp4", "video")
    assert np.array_equal(first.frames, again.frames)
    assert first.times_s == again.times_s
    make_video(root / "good.mp4", count=5)
    with pytest.raises(TypeError):
        reader.read("good.mp4", "video")


def cut(raw):
    return raw[: len(raw) // 2]


def flip(raw):
    middle = len(raw) // 2
    return (
        raw[:middle] + bytes(255 - byte for byte in raw[middle : middle + 64]) + raw[middle + 64 :]
    )


@pytest.mark.parametrize("damage", [cut, flip, lambda raw: b"", lambda raw: b"no zip"])
def test_damaged_frames_are_decoded_again(reader, caplog, damage):
    first = reader.read("good.mp4", "video")
    (kept,) = reader.cache_dir.rglob("*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING):
        again = reader.read("good.mp4", "video")
    assert "decoded again" in caplog.text
    assert np.array_equal(first.frames, again.frames)
    assert len(kept.read_bytes()) == len(whole)


def test_sizes_are_multiples_within_the_budget(root, tmp_path):
    make_video(root / "big.mp4", count=2, edge=256)
    reader = MediaReader(root, FrameConfig(max_pixels=100 * 100), factor=32, cache_dir=None)
    assert reader.read("big.mp4", "video").frames.shape[1:3] == (96, 96)


def test_images(root, reader):
    from PIL import Image

    Image.new("RGB", (70, 40), (200, 10, 10)).save(root / "i.png")
    medium = reader.read("i.png", "image")
    assert (medium.kind, medium.frames.shape) == ("image", (1, 32, 64, 3))


def corrupt(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3 :] = os.urandom(len(raw) - len(raw) // 3)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("not a video"), "pyav: .*; decord: "),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "pyav: .*; decord: "),
        (corrupt, "pyav: .*; decord: "),
    ],
)
def test_unusable_videos_say_why(root, reader, damage, reason):
    damage(root / "good.mp4")
    with pytest.raises(MediaError, match=reason):
        reader.read("good.mp4", "video")
    make_video(root / "next.mp4")
    assert reader.read("next.mp4", "video").frames.shape[0] == 4


def test_paths_must_stay_under_the_root(reader, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"x")
    for path in ("../secret.mp4", str(tmp_path / "secret.mp4")):
        with pytest.raises(MediaError, match=r"leaves data\.media_root"):
            reader.read(path, "video")


def test_a_decoder_that_hangs_is_killed_and_the_next_file_is_read(root, tmp_path, monkeypatch):
    config = FrameConfig(max_frames=4, decode_timeout_s=1.0)
    reader = MediaReader(root, config, factor=32, cache_dir=None)
    with monkeypatch.context() as patch:
        patch.setattr(decoder_process, "START", "import time; time.sleep(60)")
        with pytest.raises(MediaError, match="longer than .*decode_timeout_s"):
            reader.read("good.mp4", "video")
    config = FrameConfig(max_frames=4)
    reader.config = config
    assert reader.read("good.mp4", "video").frames.shape[0] == 4


def test_a_process_with_thousands_of_open_files_can_read(reader):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = []
    try:
        while not held or held[-1] < 1100:
            held.append(os.dup(0))
        assert reader.read("good.mp4", "video").frames.shape[0] == 4
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_decoder_that_crashes_is_named(root, tmp_path, monkeypatch):
    monkeypatch.setattr(decoder_process, "START", "import os; os.abort()")
    reader = MediaReader(root, CONFIG, factor=32, cache_dir=None)
    with pytest.raises(MediaError, match=r"died on it \(exit code -6\)"):
        reader.read("good.mp4", "video")


def test_another_decoder_than_asked_for_is_said(clip, tmp_path, caplog):
    reader = MediaReader(
        clip("hevc.mp4").parent, FrameConfig(decoder="decord"), factor=32, cache_dir=None
    )
    with caplog.at_level(logging.WARNING):
        reader.read("hevc.mp4", "video")
    assert "hevc.mp4: read with pyav instead (decord: decord loses pictures" in caplog.text


def test_frames_of_another_decoder_are_not_taken_from_the_cache(reader, root):
    reader.read("good.mp4", "video")
    other = MediaReader(
        root, FrameConfig(max_frames=4, decoder="decord"), factor=32, cache_dir=reader.cache_dir
    )
    other.read("good.mp4", "video")
    assert len(list(reader.cache_dir.rglob("*.npz"))) == 2


def test_the_decoder_process_runs_this_package_alone(root, tmp_path, monkeypatch):
    """Nothing that lies in the working folder or beside the package hides a library."""
    for name in ("numpy.py", "json.py", "lit_vdistill.py", "av.py"):
        (tmp_path / name).write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    reader = MediaReader(root, CONFIG, factor=32, cache_dir=None)
    assert reader.read("good.mp4", "video").frames.shape[0] == 4


def test_the_decoder_process_needs_no_torch(monkeypatch):
    start = decoder_process.START.replace(
        "serve(sys", "assert 'torch' not in sys.modules; serve(sys"
    )
    code = [sys.executable, "-P", "-c", start, str(decoder_process.PACKAGE.parent)]
    assert subprocess.run(code, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("media", ["a\0b.mp4", "\ud800.mp4"])
def test_names_that_no_file_can_have(reader, media):
    with pytest.raises(MediaError, match="no file can have this name"):
        reader.read(media, "video")


def test_a_budget_below_one_patch_is_refused(root):
    with pytest.raises(ValueError, match=r"data\.frames\.max_pixels \(900\) is less than .* 1024"):
        MediaReader(root, FrameConfig(max_pixels=900), factor=32, cache_dir=None)


def test_variable_frame_rates_give_true_times(root, reader):
    import av

    path = root / "vfr.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=100)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for pts in (0, 10, 300, 310, 900):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert reader.read("vfr.mp4", "video").times_s == pytest.approx((0.0, 0.1, 3.1, 9.0))


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_part_of_a_file_is_as_if_cut_out(root, tmp_path, decoder):
    """Frames of 0.5 s to 1.5 s of nine at 4 a second; the second time from the cache."""
    config = FrameConfig(max_frames=3, decoder=decoder)
    reader = MediaReader(root, config, factor=32, cache_dir=tmp_path / "cache")
    whole = reader.read("good.mp4", "video")
    for _ in range(2):
        part = reader.read(Clip("good.mp4", 0.5, 1.5), "video")
        assert [round((frame.mean() - 8) / 8) for frame in part.frames] == [2, 4, 5]
        assert part.times_s == pytest.approx((0.0, 0.5, 0.75))
    assert reader.read("good.mp4", "video").times_s == whole.times_s
    late = reader.read(Clip("good.mp4", 1.9, 60.0), "video")
    assert late.times_s == pytest.approx((0.1,))
    with pytest.raises(
        MediaError, match=r"no picture shows from 2\.1 s to 3\.0 s, the last .* 2\.00"
    ):
        reader.read(Clip("good.mp4", 2.1, 3.0), "video")
    with pytest.raises(MediaError, match=r"leaves data\.media_root"):
        reader.read(Clip("../good.mp4", 0.0, 1.0), "video")


def test_a_decoder_process_ends_with_its_reader(root):
    reader = MediaReader(root, CONFIG, factor=32, cache_dir=None)
    reader.read("good.mp4", "video")
    process = reader._decoder._process
    assert process.poll() is None
    del reader
    gc.collect()
    assert process.poll() is not None


def test_a_reader_that_lives_to_the_end_of_the_interpreter_says_nothing(root):
    code = (
        "from lit_vdistill.media.video import FrameConfig, MediaReader\n"
        f"reader = MediaReader({str(root)!r}, FrameConfig(4), factor=32, cache_dir=None)\n"
        "print(len(reader.read('good.mp4', 'video').frames), reader._decoder._process.pid)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    frames, pid = map(int, done.stdout.split())
    assert (frames, done.stderr) == (4, "")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_window_keeps_the_times_of_its_medium(root, reader):
    """Of a video from 0 to 2 s, and of a clip of it whose own time begins at 0.5 s."""
    part = reader.read("good.mp4", "video", window=(1.0, 1.6))
    assert part.times_s == (1.0, 1.25, 1.5)
    assert [round((frame.mean() - 8) / 8) for frame in part.frames] == [4, 5, 6]
    clip = Clip("good.mp4", 0.5, 1.6)
    assert reader.read(clip, "video", window=(0.5, 9.0)).times_s == (0.5, 0.75, 1.0)
    assert reader.read(clip, "video", at_s=(0.8, 0.0, 7.0)).times_s == (0.0, 0.75, 1.0)
    assert reader.read("good.mp4", "video", at_s=(0.8, 0.0, 7.0)).times_s == (0.0, 0.75, 2.0)


def test_another_plan_reads_the_same_file_otherwise(root, reader):
    other = reader.planned(FrameConfig(max_frames=2, max_pixels=32 * 32))
    assert other.read("good.mp4", "video").frames.shape == (2, 32, 32, 3)
    assert reader.read("good.mp4", "video").frames.shape == (4, 64, 64, 3)
    assert other.read("good.mp4", "video").times_s == (0.0, 2.0)
