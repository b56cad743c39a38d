import random
from collections import defaultdict
from statistics import mean, pstdev

import numpy as np
import pytest

from lit_vdistill.data.dataset import in_text_units
from lit_vdistill.metrics.token_truth import marks
from lit_vdistill.pool.quality import score_responses
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import answer_quality, count_facts
from lit_vdistill.types import Medium, Task
from lit_vdistill.world.scenes import (
    BACKGROUND,
    COLOURS,
    WorldConfig,
    questions,
    render,
    scenes,
    write_video,
)
from lit_vdistill.world.simulated_teacher import NOISE, simulate_pool, write_response

KIND_OF_MISTAKE = {
    Task.MCQ: "letter",
    Task.BINARY: "yes_no",
    Task.NUMERICAL: "count",
    Task.OCR: "digit",
    Task.TEMPORAL_GROUNDING: "time",
    Task.TEMPORAL_MCQ: "letter",
    Task.SPATIAL_GROUNDING: "coordinate",
    Task.SPATIO_TEMPORAL_QA: "place",
    Task.OPEN_ENDED: "colour",
}
CONFIG = WorldConfig(train_videos=150, val_videos=5)


def asked(scene):
    return list(questions(scene, CONFIG, random.Random(scene.id)))


@pytest.fixture(scope="module")
def train_scenes():
    return list(scenes("train", CONFIG))


def pixels(sample):
    frames = np.zeros((1, CONFIG.frame_px, CONFIG.frame_px, 3), dtype=np.uint8)
    return in_text_units(sample, Medium("video", frames, (0.0,)), "pixels")


def test_every_scene_asks_every_task_once_with_a_valid_record(train_scenes):
    from lit_vdistill.readers.records import check_sample

    for scene in train_scenes:
        samples = asked(scene)
        assert [sample.task for sample in samples] == list(Task)
        for sample in samples:
            check_sample(sample)


def test_who_sees_the_truth_answers_perfectly(train_scenes):
    for scene in train_scenes[:40]:
        for sample in map(pixels, asked(scene)):
            item = scene.objects[int(sample.meta["position"])]
            box = item.box(sample.evidence.boxes[0].time_s)
            parsed = parse_response(write_response(sample, scene, sample.answer, box))
            assert parsed.problem is None
            if sample.task.is_closed_ended:
                assert answer_quality(parsed, sample) == 1.0
            else:
                assert count_facts(parsed.answer, sample.facts).shares == (1.0, 0.0, 0.0)


def test_who_sees_the_truth_writes_no_wrong_token(train_scenes):
    """And each task has tokens of the kinds that its mistakes are made of."""
    kinds = defaultdict(set)
    for scene in train_scenes:
        for sample in map(pixels, asked(scene)):
            item = scene.objects[int(sample.meta["position"])]
            box = item.box(sample.evidence.boxes[0].time_s)
            found = marks(write_response(sample, scene, sample.answer, box), sample)
            assert {mark.verdict for mark in found} == {"right"}
            kinds[sample.task] |= {mark.kind for mark in found}
    assert all(KIND_OF_MISTAKE[task] in kinds[task] for task in Task)


def test_the_boxes_and_spans_are_where_the_pixels_are(train_scenes):
    for scene in train_scenes[:20]:
        frames = render(scene, CONFIG)
        for item in scene.shapes:
            colour = np.array(COLOURS[item.colour])
            for index, frame in enumerate(frames):
                time_s = index / CONFIG.fps
                ys, xs = np.nonzero((frame == colour).all(axis=-1))
                if not item.span[0] <= time_s < item.span[1]:
                    assert len(xs) == 0
                    continue
                found = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                assert found == item.box(time_s)
                assert min(found) >= 0
                assert max(found) <= CONFIG.frame_px


def test_objects_never_leave_their_corner(train_scenes):
    half = CONFIG.frame_px // 2
    for scene in train_scenes:
        for item in scene.objects:
            for time_s in np.arange(item.span[0], item.span[1], 1 / CONFIG.fps):
                x1, y1, x2, y2 = item.box(float(time_s))
                assert (x1 >= half) == (x2 > half) == ("right" in item.corner)
                assert (y1 >= half) == (y2 > half) == ("bottom" in item.corner)


def test_videos_are_real_and_the_same_on_every_run(tmp_path, train_scenes):
    import decord

    frames = render(train_scenes[0], CONFIG)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, CONFIG.fps)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    reader = decord.VideoReader(str(tmp_path / "a.mp4"))
    assert len(reader) == CONFIG.num_frames
    decoded = reader.get_batch(range(len(reader))).asnumpy().astype(int)
    assert abs(decoded - frames).mean() < 4
    assert abs(np.median(decoded) - BACKGROUND) <= 2


def test_splits_and_seeds_differ():
    def names(split, seed):
        return [s.objects for s in scenes(split, WorldConfig(5, 5, seed=seed))]

    assert names("train", 0) != names("val", 0)
    assert names("train", 0) != names("train", 1)
    assert names("train", 0) == names("train", 0)


def test_the_simulated_teacher_is_as_noisy_as_the_paper_reports(train_scenes):
    qualities, malformed = defaultdict(list), defaultdict(list)
    for scene in train_scenes:
        for sample in map(pixels, asked(scene)):
            pool = score_responses(sample, simulate_pool(sample, scene, CONFIG))
            assert [s.response.index for s in pool] == list(range(CONFIG.pool_size))
            for scored in pool:
                is_bad = parse_response(scored.response.text).problem is not None
                malformed[sample.task].append(is_bad)
                if sample.task.is_closed_ended and not is_bad:
                    qualities[sample.task].append(scored.quality)
    for task, values in qualities.items():
        expected = min(NOISE[task].mean, 0.96)
        if task is Task.TEMPORAL_MCQ:
            expected = (1 + expected) / 2  # a wrong option keeps its right span
        assert mean(values) == pytest.approx(expected, abs=0.08), task
    assert pstdev(qualities[Task.SPATIAL_GROUNDING]) == pytest.approx(0.28, abs=0.06)
    temporal = malformed[Task.TEMPORAL_GROUNDING] + malformed[Task.TEMPORAL_MCQ]
    assert 0.01 < mean(temporal) < 0.12
    assert mean(malformed[Task.MCQ]) < 0.02
