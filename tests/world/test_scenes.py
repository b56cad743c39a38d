import numpy as np
import pytest

from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.scenes import (
    CELL_PX,
    COLOURS,
    FPS,
    FRAME_PX,
    LEVELS,
    NUM_FRAMES,
    PLACES,
    SECONDS,
    Scene,
    SceneObject,
    render,
    scenes,
    write_video,
)


@pytest.fixture(scope="module")
def train_scenes():
    return list(scenes("train", WorldConfig(train_videos=150)))


def pixels_of(item, frame):
    colour = COLOURS.get(item.colour, (235, 235, 235))
    return np.nonzero((frame == np.array(colour)).all(axis=-1))


def test_boxes_and_spans_are_where_the_pixels_are(train_scenes):
    for scene in train_scenes[:30]:
        for index, frame in enumerate(render(scene)):
            time_s = index / FPS
            for item in scene.shapes:
                ys, xs = pixels_of(item, frame)
                if not item.span[0] <= time_s < item.span[1]:
                    assert len(xs) == 0
                    continue
                found = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                assert found == item.box(time_s)


def test_objects_stay_in_cells_of_their_own(train_scenes):
    for scene in train_scenes:
        assert len({item.place for item in scene.objects}) == len(scene.objects)
        for item in scene.objects:
            row, column = divmod(PLACES.index(item.place), 3)
            for time_s in np.arange(*item.span):
                x1, y1, x2, y2 = item.box(float(time_s))
                assert column * CELL_PX <= x1 < x2 <= (column + 1) * CELL_PX
                assert row * CELL_PX <= y1 < y2 <= (row + 1) * CELL_PX


def test_levels_come_in_turn_and_keep_to_their_bounds(train_scenes):
    assert [scene.level for scene in train_scenes[:3]] == list(LEVELS)
    for scene in train_scenes:
        level = scene.level
        assert level.shapes[0] <= len(scene.shapes) <= level.shapes[1]
        assert len(scene.text.digits) == level.digits
        for item in scene.shapes:
            assert level.seconds[0] <= item.span[1] - item.span[0] <= level.seconds[1]
            assert 0 <= item.span[0] < item.span[1] <= SECONDS
            assert level.stands == "moving" or item.motion == "still"
            if level.stands == "centred":
                assert [side % CELL_PX for side in item.origin] == [4, 4]
    assert any(item.box(item.span[0]) != item.box(item.span[1] - 1)
               for scene in train_scenes for item in scene.shapes)  # fmt: skip


def test_a_text_shows_its_digits_one_after_the_other():
    text = SceneObject("digits 4 7 2", "centre", "still", (1.0, 7.0), (40, 40), (9, 15))
    assert [text.digit_at(float(second)) for second in range(1, 7)] == list("447722")
    frames = render(Scene("s", LEVELS[2], (text,)))
    assert len(pixels_of(text, frames[0])[0]) == 0
    shown = [pixels_of(text, frame) for frame in frames[1:7]]
    same = [np.array_equal(a, b) for a, b in zip(shown, shown[1:], strict=False)]
    assert same == [True, False, True, False, True]


def test_a_text_never_shows_one_digit_twice_in_a_row(train_scenes):
    for scene in train_scenes:
        digits = scene.text.digits
        assert all(a != b for a, b in zip(digits, digits[1:], strict=False))


def test_videos_are_real_and_the_same_on_every_run(tmp_path, train_scenes):
    import decord

    frames = render(train_scenes[0])
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, FPS, scale=2)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    reader = decord.VideoReader(str(tmp_path / "a.mp4"))
    assert len(reader) == NUM_FRAMES
    decoded = reader.get_batch(range(len(reader))).asnumpy().astype(int)
    assert decoded.shape == (NUM_FRAMES, 2 * FRAME_PX, 2 * FRAME_PX, 3)
    assert abs(decoded[:, ::2, ::2] - frames).mean() < 4


def test_splits_and_seeds_differ():
    def objects(split, seed):
        return [scene.objects for scene in scenes(split, WorldConfig(5, 5, 5, seed))]

    drawn = [objects(split, 0) for split in ("train", "val", "test")] + [objects("train", 1)]
    assert all(a != b for i, a in enumerate(drawn) for b in drawn[:i])
    assert objects("train", 0) == objects("train", 0)
