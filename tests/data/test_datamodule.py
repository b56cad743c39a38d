import json
import logging
import re
import shutil
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from lit_vdistill import processes
from lit_vdistill.data import dataset
from lit_vdistill.data.batch import Item, collate
from lit_vdistill.data.datamodule import LoaderConfig, SourceConfig, VideoDistillDataModule
from lit_vdistill.data.mixture import Mixture
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.pool.quality import greedy_scores, score_responses
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.readers.records import BadSample, read_records, write_records
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.responses.writing import rescaled_boxes
from lit_vdistill.rewards import (
    GroundedFormat,
    OuterFormat,
    answer_quality,
    reward_breakdown,
)
from lit_vdistill.tasks import Task
from lit_vdistill.types import Clip, Evidence, FrameFiles, TeacherResponse
from lit_vdistill.world.questions import TASKS


@pytest.fixture
def make_data(world, tmp_path):
    """A data module on a copy of the small world."""
    root = tmp_path / "world"
    shutil.copytree(world, root)
    thousandths = PoolStore(tmp_path / "thousandths.jsonl")
    thousandths.append(
        replace(said, text=rescaled_boxes(said.text, 1000 / 96, 1000 / 96, digits=0))
        for pool in PoolStore(root / "pool.jsonl").load().values()
        for said in pool
    )

    def build(max_bad_fraction=0.0, units="pixels", template="short", shown=None, **loader):
        pool = root / "pool.jsonl" if units == "pixels" else thousandths.path
        sources = SourceConfig(
            train_path=str(root / "train.jsonl"),
            val_path=str(root / "val.jsonl"),
            test_path=str(root / "test.jsonl"),
            media_root=str(root),
            pool_path=str(pool),
            cache_dir=str(tmp_path / "frames"),
            max_bad_fraction=max_bad_fraction,
        )
        prompt = PromptConfig(template=template, box_units=units, **(shown or {}))
        return VideoDistillDataModule(
            "tiny/qwen3-vl", sources, prompt=prompt, loader=LoaderConfig(**loader)
        )

    build.root = root
    return build


def test_items_join_question_medium_and_pool(make_data):
    data = make_data()
    data.setup("fit")
    assert len(data.train_set) == 4 * 9
    for index in range(9):
        item = data.train_set[index]
        assert isinstance(item, Item)
        assert len(item.pool) == 8
        assert {s.response.sample_id for s in item.pool} == {item.sample.id}
        assert item.prompt.sample_id == item.sample.id


def test_the_frame_plan_reads_true_times_of_the_file(make_data):
    data = make_data()
    data.setup("fit")
    text = data.processor.tokenizer.decode(data.train_set[0].prompt.input_ids)
    # Eight frames at 1 fps, two to a temporal patch.
    assert "<0.5 seconds>" in text
    assert "<6.5 seconds>" in text


@pytest.mark.parametrize("times", ["true", "even"])
def test_a_video_as_images_has_key_frames_in_training_alone(make_data, times):
    data = make_data(
        shown={"frames_as": "images", "frame_times": times, "key_frames": True}, memory_gib=0.1
    )
    data.setup("fit")
    longest, seen = data.train_set.longest_prompt(), set()
    for index, sample in enumerate(data.train_set.samples[:18]):
        prompt = data.train_set[index].prompt
        assert prompt.kind == "image"
        moments = sample.evidence.moments if sample.task.reasons_at_moments else ()
        # The world's key frames are frames of the plan, of which the even clock drops the last.
        assert len(prompt.grid_thw) in ({8 + len(moments)} if times == "true" else {8, 9, 10, 11})
        text = data.processor.tokenizer.decode(prompt.input_ids)
        assert "Frame 1, 0.0s: <|vision_start|>" in text
        assert "The video lasts 8s." in text
        assert len(prompt.input_ids) <= longest
        seen.add(len(prompt.grid_thw))
    assert len(seen) > 1
    # Pixels are kept by what is shown, not by medium alone.
    assert len({id(item.prompt.pixels) for item in data.train_set._items.values()}) > 2
    for index in range(9):
        assert len(data.val_set[index].prompt.grid_thw) == 8


def test_what_is_kept_in_memory_is_what_is_read(make_data):
    """Two questions about one video, of which one shows key frames, have pixels of their own."""
    shown = {"frames_as": "images", "key_frames": True}
    kept, read = make_data(shown=shown, memory_gib=0.1), make_data(shown=shown)
    kept.setup("fit")
    read.setup("fit")
    for index in range(9):
        kept.train_set[index]
    for index in range(9):
        again, fresh = kept.train_set[index].prompt, read.train_set[index].prompt
        assert torch.equal(again.pixels, fresh.pixels)
        assert torch.equal(again.input_ids, fresh.input_ids)


@pytest.mark.parametrize("memory_gib", [0.0, 0.1])
@pytest.mark.parametrize("frames_as", ["video", "images"])
def test_a_teachers_view_is_read_beside_the_students(make_data, memory_gib, frames_as):
    data = make_data(units="thousandths", shown={"frames_as": frames_as}, memory_gib=memory_gib)
    data.frames = FrameConfig(max_pixels=9216)
    data.setup("fit")
    bare = replace(data.train_set.samples[0], evidence=Evidence())
    data.train_set.samples = [bare, *data.train_set.samples[1:]]
    plain = [data.train_set[i].prompt for i in range(9)]
    data.train_set._items.clear()
    data.train_set.show_teacher(ViewConfig(max_frames=4, max_pixels=4 * 9216))
    longest, seen = data.train_set.longest_read(), set()
    for index in [*range(9), *range(9)]:
        item = data.train_set[index]
        assert torch.equal(item.prompt.pixels, plain[index].pixels)
        assert item.num_tokens <= longest
        annotated = [t for span in item.sample.evidence.spans for t in span]
        annotated += item.sample.evidence.moments
        assert (item.view is None) == (not annotated)
        seen.add(item.view is None)
        if item.view is not None:
            assert item.view.times_s[0] >= min(annotated) - 1
            assert item.view.times_s[-1] <= max(annotated) + 1
            assert len(item.view.times_s) <= 4
            # Twice as large: these times are the student's, and so is the question.
            assert item.view.grid_thw[0, 1] == 2 * item.prompt.grid_thw[0, 1]
            assert item.view.input_ids[-9:].tolist() == item.prompt.input_ids[-9:].tolist()
    assert seen == {True, False}
    batch = collate([data.train_set[i] for i in range(9)])
    assert {v.pixels.device.type for v in batch.to("meta").views} == {"meta"}
    assert all(item.view is None for item in batch.without_views().items)


def test_a_teacher_sees_no_larger_pixels_where_boxes_count_them(make_data):
    data = make_data(units="pixels")
    data.setup("fit")
    with pytest.raises(ValueError, match=r"view.max_pixels 9: boxes count pixels of the student"):
        data.train_set.show_teacher(ViewConfig(max_pixels=9))


def test_a_demonstration_is_imitated_where_no_teacher_was_asked(make_data):
    path = make_data.root / "train.jsonl"
    said = "<think>At <box>[0.1,0.2,0.3,0.4]</box>.</think><answer>x</answer>"
    samples, _ = read_records(path)
    write_records(path, [replace(samples[0], demonstration=said), *samples[1:]])
    asked = make_data(units="thousandths")
    asked.setup("fit")
    assert len(asked.train_set[0].pool) == 8
    own = make_data(units="thousandths")
    own.sources = replace(own.sources, pool_path=None)
    own.setup("fit")
    (only,) = own.train_set[0].pool
    assert only.response.model == "demonstration"
    assert "<box>[100,200,300,400]</box>" in only.response.text
    assert own.train_set[1].pool == ()


@pytest.mark.parametrize(("units", "scale"), [("pixels", 192), ("thousandths", 1000)])
def test_boxes_come_in_the_units_that_the_model_writes(make_data, units, scale):
    data = make_data(units=units)
    data.setup("fit")
    for index, raw in enumerate(data.train_set.samples[:9]):
        box = data.train_set[index].sample.evidence.boxes[0].box
        expected = [value * scale for value in raw.evidence.boxes[0].box]
        assert list(box) == pytest.approx(expected)


def test_a_pool_in_other_units_than_the_students_is_refused(make_data):
    """The world's teacher writes pixels, of 96 a side; as thousandths all its boxes were wrong."""
    data = make_data(units="thousandths")
    data.setup("fit")
    data.sources = replace(data.sources, pool_path=str(make_data.root / "pool.jsonl"))
    with pytest.raises(ValueError, match=r"pool.jsonl: expected .* thousandths .* about 9\d "):
        data.setup("fit")


def test_the_envelope_of_a_run_is_that_of_its_qualities_and_rewards(make_data):
    """A response that is valid in one of them only; one switch, whoever reads it."""
    for envelope, worth in (("strict", 0.0), ("lenient", 1.0)):
        data = make_data(shown={"envelope": envelope})
        data.setup("fit")
        index = next(i for i, s in enumerate(data.train_set.samples) if s.task is Task.MCQ)
        item = data.train_set[index]
        text = f"<think>t</think><answer>{item.sample.answer}</answer><think>u</think>"
        (scored,) = score_responses(
            item.sample, [TeacherResponse(item.sample.id, 0, text, "m", 1.0, 1.0)]
        )
        paid = reward_breakdown([OuterFormat(), GroundedFormat()], text, item.sample)
        assert [scored.quality, *paid.values()] == [worth] * 3
        assert greedy_scores(text, item.sample)["score"] == worth
        held_out = data.val_set[0].sample
        assert held_out.envelope == envelope


def test_encoded_samples_are_kept_within_the_budget_and_share_pixels(make_data):
    data = make_data(memory_gib=1.0)
    data.setup("fit")
    first, again, other = (data.train_set[i] for i in (0, 0, 1))
    assert first.prompt.input_ids is again.prompt.input_ids or first == again
    assert data.train_set[0] is data.train_set[0]
    assert data.train_set[0].prompt.pixels is data.train_set[1].prompt.pixels
    assert other.sample.id != first.sample.id
    none = make_data(memory_gib=0.0)
    none.setup("fit")
    assert none.train_set[0] is not none.train_set[0]
    assert torch.equal(none.train_set[0].prompt.pixels, first.prompt.pixels)


@pytest.mark.parametrize("is_worker", [True, False])
def test_a_loading_process_sends_copies_of_what_it_keeps(make_data, monkeypatch, is_worker):
    """Sending moves a tensor to shared memory: kept ones would leave a file open each."""
    monkeypatch.setattr(dataset, "get_worker_info", lambda: object() if is_worker else None)
    data = make_data(memory_gib=1.0)
    data.setup("fit")
    sent = [data.train_set[index].prompt for index in (0, 0, 1)]
    kept = data.train_set._items[0].prompt
    assert all(torch.equal(prompt.pixels, kept.pixels) for prompt in sent)
    assert {prompt.medium for prompt in sent} == {kept.medium} != {None}
    assert len({prompt.pixels.data_ptr() for prompt in sent}) == (3 if is_worker else 1)
    tensors = [name for name in kept.__slots__ if torch.is_tensor(getattr(kept, name))]
    assert set(tensors) > {"input_ids", "pixels"}
    for name in tensors:
        is_kept = getattr(sent[0], name) is getattr(kept, name)
        assert is_kept == (not is_worker), name


def test_unreadable_samples_are_counted_and_left_out_within_the_budget(make_data, caplog):
    data = make_data(max_bad_fraction=0.3)
    (make_data.root / "videos/train00000.mp4").write_bytes(b"broken")
    data.setup("fit")
    batch = collate([data.train_set[i] for i in (0, 9)])
    assert len(batch) == 1
    assert batch.bad[0].id == "train00000-mcq"
    ledger = data.ledgers["training"]
    with caplog.at_level(logging.WARNING):
        ledger.add(batch.bad)
        ledger.add(batch.bad)
    assert len(ledger.bad) == 1
    assert caplog.text.count("left out") == 1
    assert "videos/train00000.mp4" in caplog.text


def test_whatever_a_sample_breaks_is_the_samples(make_data, monkeypatch):
    data = make_data()
    data.setup("fit")

    def stumble(*_):
        raise KeyError("video")

    monkeypatch.setattr(dataset, "encode_prompt", stumble)
    bad = data.train_set[3]
    assert isinstance(bad, BadSample)
    assert bad.id == data.train_set.samples[3].id
    assert "cannot be encoded (KeyError: 'video')" in str(bad)


def test_beyond_the_budget_the_run_stops_with_the_list(make_data):
    data = make_data(max_bad_fraction=0.05)
    data.setup("fit")
    bad = [BadSample(f"s{i}", "v.mp4", "broken") for i in range(2)]
    with pytest.raises(ValueError, match=r"(?s)2 of 36 training .* s0 \(v\.mp4\): broken\n  s1"):
        data.ledgers["training"].add(bad)


def test_bad_records_count_too(make_data):
    with (make_data.root / "train.jsonl").open("a") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(ValueError, match="1 of 37 training samples"):
        make_data(max_bad_fraction=0.0).setup("fit")
    make_data(max_bad_fraction=0.1).setup("fit")


def test_a_pool_of_other_records_is_an_error(make_data):
    path = make_data.root / "pool.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["sample_id"] = "other-" + line["sample_id"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="belongs to other records"):
        make_data().setup("fit")


def test_a_pool_with_holes_is_reported(make_data, caplog):
    path = make_data.root / "pool.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[8:]))
    with caplog.at_level(logging.WARNING):
        make_data().setup("fit")
    assert "1 training samples have no response" in caplog.text


def test_text_image_and_video_stand_in_one_batch(make_data):
    from PIL import Image

    Image.new("RGB", (64, 64), (200, 40, 40)).save(make_data.root / "i.png")
    samples, _ = read_records(make_data.root / "train.jsonl")
    text = replace(samples[1], id="text", media=None, media_type="text")
    image = replace(samples[1], id="image", media="i.png", media_type="image")
    write_records(make_data.root / "train.jsonl", [samples[0], text, image])
    data = make_data()
    data.setup("fit")
    batch = collate([data.train_set[i] for i in range(3)])
    assert [prompt.kind for prompt in batch.prompts] == ["video", "text", "image"]


@pytest.mark.parametrize("template", ["short", "grounded"])
def test_the_longest_prompt_is_no_shorter_than_any(make_data, template):
    """Whatever is asked, of text, image or video; and not by much, with frames as they are."""
    from PIL import Image

    Image.new("RGB", (300, 40), (200, 40, 40)).save(make_data.root / "i.png")
    samples, _ = read_records(make_data.root / "train.jsonl")
    alone = [s for s in samples[:9] if not s.task.needs_medium]
    texts = [replace(s, id=f"t{s.id}", media=None, media_type="text") for s in alone]
    images = [replace(s, id=f"i{s.id}", media="i.png", media_type="image") for s in samples[:9]]
    for part in (samples, texts, images, texts + images + samples):
        write_records(make_data.root / "train.jsonl", part)
        data = make_data(template=template)
        data.sources = replace(data.sources, pool_path=None)
        data.setup("fit")
        lengths = [len(data.train_set[i].prompt.input_ids) for i in range(len(part))]
        assert max(lengths) <= data.train_set.longest_prompt()
    write_records(make_data.root / "train.jsonl", texts)
    data = make_data(template=template)
    data.sources = replace(data.sources, pool_path=None)
    data.setup("fit")
    lengths = [len(data.train_set[i].prompt.input_ids) for i in range(len(texts))]
    assert data.train_set.longest_prompt() == max(lengths)


def test_a_short_question_with_a_long_instruction_may_be_the_longest_prompt(make_data):
    samples, _ = read_records(make_data.root / "train.jsonl")
    asked = replace(samples[0], options=("a", "b"), answer="A")
    where = replace(asked, id="w", task=Task.SPATIAL_GROUNDING, question="Where is the red dog?")
    when = replace(asked, id="t", task=Task.TEMPORAL_MCQ, question="When?")
    lengths = []
    for part in ([where], [when], [where, when], [when, where]):
        write_records(make_data.root / "train.jsonl", part)
        data = make_data(template="grounded")
        data.sources = replace(data.sources, pool_path=None)
        data.setup("fit")
        lengths.append(data.train_set.longest_prompt())
    assert lengths[0] < lengths[1] == lengths[2] == lengths[3]


def test_one_of_the_longest_responses_has_the_most_tokens(make_data):
    data = make_data()
    data.setup("fit")
    texts = [response.text for pool in data.train_set.pools.values() for response in pool]

    def longest(texts):
        return max(len(data.processor.tokenizer(text).input_ids) for text in texts)

    kept = data.train_set.longest_responses()
    assert len(kept) == 16 < len(texts)
    assert longest(kept) == longest(texts)


@pytest.fixture
def turns_on(make_data):
    """The first turns of a process among several, and its data module."""

    def build(count, rank=0, world_size=1, *, updates=1, state=None, **options):
        data = make_data(**options)
        data.setup("fit")
        stage = SimpleNamespace(updates_per_window=updates, teacher_view=None, looks_ahead=False)
        data.trainer = SimpleNamespace(
            global_rank=rank,
            world_size=world_size,
            accumulate_grad_batches=2,
            lightning_module=stage,
            state=SimpleNamespace(fn="fit"),
        )
        if state is not None:
            data.load_state_dict(state)
        return list(islice(iter(data.train_dataloader()), count)), data

    return build


def test_a_checkpoint_is_validated_on_any_number_of_processes(make_data):
    data = make_data(batch_size=3)
    state = {"samples": 64, "samples_per_step": 16, "update": 1, "windows": [[0], [1]]}
    with pytest.raises(ValueError, match="steps have 16 samples, this run's have 3"):
        data.load_state_dict(state)
    data.trainer = SimpleNamespace(state=SimpleNamespace(fn="validate"))
    data.load_state_dict(state)


def names(turn):
    return [item.sample.id for item in turn.window.items]


def test_windows_are_the_same_on_any_number_of_processes(turns_on):
    seen = []
    for count in (1, 2, 4):
        ranks = [turns_on(6, r, count, batch_size=8 // count)[0] for r in range(count)]
        assert all([t.piece for t in turns] == [0, 1] * 3 for turns in ranks)
        seen.append(
            [sorted(n for t in place for n in names(t)) for place in zip(*ranks, strict=True)]
        )
    assert seen[0] == seen[1] == seen[2]


def test_questions_about_a_medium_come_together_and_it_is_read_once(turns_on, monkeypatch):
    read = []
    reading = MediaReader.read
    monkeypatch.setattr(
        MediaReader,
        "read",
        lambda self, media, kind: read.append(media) or reading(self, media, kind),
    )
    turns, data = turns_on(4, batch_size=18, by_medium=True)
    for turn in turns[::2]:
        assert len({item.sample.media for item in turn.window.items}) == 2
    assert len(read) == 4
    data.mixture = Mixture({}, {}, num_steps=1)
    with pytest.raises(ValueError, match=r"by_medium: expected false beside callbacks\.Curriculum"):
        data.train_dataloader()


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 8])
def test_the_state_says_where_to_go_on(turns_on, stop):
    whole, _ = turns_on(16, updates=2, batch_size=4)
    _, data = turns_on(stop, updates=2, batch_size=4)
    state = data.state_dict()
    assert state["update"] == {2: 1, 3: 1}.get(stop, 0)
    resumed, _ = turns_on(4, updates=2, batch_size=4, state=state)
    begun = stop - stop % 2
    places = [(turn.update, turn.piece, names(turn)) for turn in (*whole, *resumed)]
    assert places[16:] == places[begun : begun + 4]


def test_another_product_of_batch_size_and_processes_is_an_error(turns_on):
    _, data = turns_on(2, batch_size=4)
    state = data.state_dict()
    with pytest.raises(ValueError, match=r"steps have 4 samples, this run's have 3: 1 processes x"):
        turns_on(1, batch_size=3, state=state)
    _, data = turns_on(2, updates=2, batch_size=4)
    state = data.state_dict()
    halves = [state["windows"][0][:2], state["windows"][0][2:]]
    with pytest.raises(ValueError, match="on 2 processes and resumes on as many, got 1"):
        turns_on(1, updates=2, batch_size=4, state=state | {"windows": halves})


def test_bad_samples_of_a_window_and_of_a_draw_are_counted(turns_on, make_data):
    (make_data.root / "videos/train00000.mp4").write_bytes(b"broken")
    (turn, *_), data = turns_on(1, batch_size=6, max_bad_fraction=0.3)
    assert data.on_before_batch_transfer(turn, 0) is turn
    bad = data.ledgers["training"].bad
    assert {sample.id for sample in bad.values()} == {sample.id for sample in turn.window.bad}
    assert turn.left_out == len(bad) > 0
    assert len(turn.draw(30)) == 30
    assert len(bad) == 9


def test_with_one_sample_a_step_an_unreadable_one_stops_nothing(turns_on, make_data):
    """Another stands in, the same in a resumed run, and the stream does not advance for it."""
    for name in ("train00000", "train00002"):
        (make_data.root / f"videos/{name}.mp4").write_bytes(b"broken")
    turns, data = turns_on(24, batch_size=1, max_bad_fraction=0.5)
    assert all(len(turn.window) == 1 for turn in turns)
    assert any(turn.window.bad for turn in turns[:6])
    for turn in turns[:6]:
        data.on_before_batch_transfer(turn, 0)
    _, data = turns_on(6, batch_size=1, max_bad_fraction=0.5)
    for turn in turns[:6]:
        data.on_before_batch_transfer(turn, 0)
    state = data.state_dict()
    assert state["samples"] == 3
    assert len(state["left_out"]) == turns[5].left_out > 0
    resumed, again = turns_on(6, batch_size=1, max_bad_fraction=0.5, state=state)
    assert [names(turn) for turn in resumed] == [names(turn) for turn in turns[6:12]]
    assert again.ledgers["training"].bad == data.ledgers["training"].bad


def test_bad_samples_of_all_processes_are_compared_with_the_split(turns_on, make_data, monkeypatch):
    """Two processes with 18 samples each: what one loses counts on both, against all 36."""
    (make_data.root / "videos/train00000.mp4").write_bytes(b"broken")
    whole = [turns_on(12, rank, 2, batch_size=3, max_bad_fraction=0.3) for rank in (0, 1)]
    for turns in zip(*(turns for turns, _ in whole), strict=True):
        told = [(turn.window.bad, len(turn.window)) for turn in turns]
        monkeypatch.setattr(processes, "gather", lambda value, told=told: told)
        for turn, (_, data) in zip(turns, whole, strict=True):
            data.on_before_batch_transfer(turn, 0)
    ledgers = [data.ledgers["training"] for _, data in whole]
    assert list(ledgers[0].bad) == list(ledgers[1].bad)
    assert len(ledgers[0].bad) == 9
    ledgers[0].max_fraction = 0.2
    monkeypatch.setattr(processes, "gather", lambda value: [value, value])
    with pytest.raises(ValueError, match="9 of 36 training samples"):
        ledgers[0].add_batch(whole[0][0][0].window)


def test_a_process_without_a_stand_in_stops_all(turns_on, make_data, monkeypatch):
    for video in (make_data.root / "videos").iterdir():
        video.write_bytes(b"broken")
    (turn, *_), data = turns_on(1, batch_size=2, max_bad_fraction=1.0)
    monkeypatch.setattr(processes, "gather", lambda value: [value, ((), 2)])
    with pytest.raises(ValueError, match=r"none is left to stand in .*media_root right"):
        data.on_before_batch_transfer(turn, 0)


def test_held_out_batches_keep_their_size(make_data, monkeypatch):
    """What stands in for an unreadable sample is answered and not scored."""
    samples, _ = read_records(make_data.root / "val.jsonl")
    broken = replace(samples[1], id="broken", media="none.mp4")
    write_records(make_data.root / "val.jsonl", [samples[0], broken, samples[2]])
    data = make_data(max_bad_fraction=0.5, val_batch_size=1)
    data.setup("validate")
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, testing=False)
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    items = [item for batch in batches for item in batch.items]
    assert [item.is_padding for item in items] == [False, True, False]
    assert [bad.id for bad in data.ledgers["validation"].bad.values()] == ["broken"]


@pytest.fixture
def with_train(make_data):
    """A data module whose training records are the world's first nine, changed."""

    def build(changes, memory_gib=0.0, **options):
        samples, _ = read_records(make_data.root / "train.jsonl")
        changed = [replace(sample, **changes.get(sample.task, {})) for sample in samples[:9]]
        write_records(make_data.root / "train.jsonl", changed)
        data = make_data(max_bad_fraction=1.0, memory_gib=memory_gib)
        data.sources = replace(data.sources, pool_path=None, **options)
        data.setup("fit")
        by_task = {sample.task: i for i, sample in enumerate(data.train_set.samples)}
        return data, by_task

    return build


def test_a_truth_without_length_is_left_out_of_training_or_lasts_a_while(with_train):
    span = Evidence(spans=((0.5, 0.5),))
    changes = {Task.TEMPORAL_GROUNDING: {"evidence": span}}
    data, by_task = with_train(changes)
    assert Task.TEMPORAL_GROUNDING not in by_task
    (bad,) = data.ledgers["training"].bad.values()
    assert "no length: 0.5 s (data.sources.instant_length_s)" in str(bad)
    data, by_task = with_train(changes, instant_length_s=2.0)
    item = data.train_set[by_task[Task.TEMPORAL_GROUNDING]]
    assert item.sample.evidence.spans == ((0.0, 1.5),)
    near, far, none = (
        answer_quality(parse_response(f"<think>t</think><answer>{answer}</answer>"), item.sample)
        for answer in (
            "From <t>0.0</t>s to <t>1.5</t>s",
            "From <t>1.0</t>s to <t>3.0</t>s",
            "From <t>5.0</t>s to <t>6.0</t>s",
        )
    )
    assert near == 1.0 > far > none == 0.0


def test_evidence_behind_the_end_of_a_video_makes_a_bad_training_sample(with_train, make_data):
    """The last frame of eight is at 7 s."""
    changes = {
        Task.TEMPORAL_GROUNDING: {"evidence": Evidence(spans=((2.0, 9.5),))},
        Task.TEMPORAL_MCQ: {"evidence": Evidence(spans=((2.0, 8.5),))},
    }
    data, by_task = with_train(changes)
    bad = data.train_set[by_task[Task.TEMPORAL_GROUNDING]]
    assert "evidence at 9.5 s, but the video's last frame is at 7.00 s" in str(bad)
    assert isinstance(data.train_set[by_task[Task.TEMPORAL_MCQ]], Item)
    data, by_task = with_train({}, max_overshoot_s=3.0)
    assert isinstance(data.train_set[by_task[Task.TEMPORAL_GROUNDING]], Item)
    # A held-out truth is scored as it is annotated.
    shutil.copy(make_data.root / "train.jsonl", make_data.root / "val.jsonl")
    data, _ = with_train({})
    assert all(isinstance(data.val_set[i], Item) for i in range(9))


def test_frames_sampled_elsewhere_keep_their_times_to_the_token(with_train, make_data):
    from PIL import Image

    files = tuple(f"frames/{i}.png" for i in range(4))
    (make_data.root / "frames").mkdir()
    for i, file in enumerate(files):
        Image.new("RGB", (64, 96), (60 * i, 0, 0)).save(make_data.root / file)
    Image.new("RGB", (96, 64)).save(make_data.root / "frames/wide.png")
    times = (0.0, 0.8, 3.0, 9.2)
    changes = {
        Task.MCQ: {"media": FrameFiles(files, times)},
        Task.OCR: {"media": FrameFiles(files[:1], (2.0,))},
        Task.NUMERICAL: {"media": FrameFiles((*files[:1], "frames/none.png"), (0.0, 1.0))},
        Task.BINARY: {"media": FrameFiles((*files[:1], "frames/wide.png"), (0.0, 1.0))},
        Task.TEMPORAL_GROUNDING: {
            "media": FrameFiles(files, times), "evidence": Evidence(spans=((2.0, 60.0),)),
        },
    }  # fmt: skip
    data, by_task = with_train(changes)
    items = {task: data.train_set[by_task[task]] for task in changes}
    for task in (Task.MCQ, Task.TEMPORAL_GROUNDING):
        text = data.processor.tokenizer.decode(items[task].prompt.input_ids)
        assert re.findall(r"<[\d.]+ seconds>", text) == ["<0.4 seconds>", "<6.1 seconds>"]
    assert (items[Task.OCR].prompt.token_types > 0).sum() > 0
    assert "the file does not exist" in str(items[Task.NUMERICAL])
    assert "frames/wide.png has 96 x 64 and frames/0.png 64 x 96 pixels" in str(items[Task.BINARY])
    medium = data.reader.read(FrameFiles(files, times), "video")
    assert medium.times_s == times
    assert medium.frames[:, 0, 0, 0].tolist() == [0, 60, 120, 180]


def test_parts_of_one_file_are_media_of_their_own(with_train, make_data):
    """Kept in memory too: the pixels of one part must not be taken for those of another."""
    parts = {
        Task.MCQ: Clip("videos/train00000.mp4", 0.0, 4.0),
        Task.OCR: Clip("videos/train00000.mp4", 4.0, 8.0),
    }
    data, by_task = with_train(
        {task: {"media": part, "evidence": Evidence()} for task, part in parts.items()},
        memory_gib=1.0,
    )
    for _ in range(2):
        first, second = (data.train_set[by_task[task]].prompt for task in parts)
        assert not torch.equal(first.pixels, second.pixels)
        for prompt in (first, second):
            text = data.processor.tokenizer.decode(prompt.input_ids)
            assert re.findall(r"<[\d.]+ seconds>", text) == ["<0.5 seconds>", "<2.5 seconds>"]


def test_a_medium_that_cannot_be_read_is_not_tried_again(make_data, monkeypatch):
    data = make_data()
    (make_data.root / "videos/train00000.mp4").write_bytes(b"broken")
    data.setup("fit")
    reading, read = MediaReader.read, []
    monkeypatch.setattr(
        MediaReader, "read", lambda self, *args: read.append(args) or reading(self, *args)
    )
    reasons = {data.train_set[index].reason for index in (0, 1, 0)}
    assert len(reasons) == len(read) == 1


def test_the_test_split_is_what_the_test_command_reads(make_data):
    data = make_data()
    data.setup("test")
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, testing=True)
    batches = [data.on_before_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    ids = [item.sample.id for batch in batches for item in batch.items]
    assert ids == [f"test00000-{task}" for task in TASKS]
    assert set(data.ledgers) == {"test"}


def test_without_a_test_split_the_test_command_says_so(make_data):
    data = make_data()
    data.sources = replace(data.sources, test_path=None)
    with pytest.raises(ValueError, match=r"data\.sources\.test_path names no records"):
        data.setup("test")
