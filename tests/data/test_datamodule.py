import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch

from lit_vdistill.data.datamodule import (
    LoaderConfig,
    SourceConfig,
    VideoDistillDataModule,
    load_template,
)
from lit_vdistill.data.dataset import Item, PromptConfig, collate
from lit_vdistill.readers.records import BadSample, read_records, write_records
from lit_vdistill.types import Task


@pytest.fixture
def make_data(world, tmp_path):
    """A data module on a copy of the small world."""
    root = tmp_path / "world"
    shutil.copytree(world, root)

    def build(max_bad_fraction=0.0, units="pixels", **loader):
        sources = SourceConfig(
            train_path=str(root / "train.jsonl"),
            val_path=str(root / "val.jsonl"),
            media_root=str(root),
            pool_path=str(root / "pool.jsonl"),
            cache_dir=str(tmp_path / "frames"),
            max_bad_fraction=max_bad_fraction,
        )
        prompt = PromptConfig(template="short", box_units=units)
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
        assert len(item.pool) == 4
        assert {s.response.sample_id for s in item.pool} == {item.sample.id}
        assert item.prompt.sample_id == item.sample.id


def test_the_frame_plan_reads_true_times_of_the_file(make_data):
    data = make_data()
    data.setup("fit")
    text = data.processor.tokenizer.decode(data.train_set[0].prompt.input_ids)
    # 16 of 31 frames at 4 fps: one each half second, two to a temporal patch.
    assert "<0.2 seconds>" in text
    assert "<7.2 seconds>" in text


@pytest.mark.parametrize(("units", "scale"), [("pixels", 64), ("thousandths", 1000)])
def test_boxes_come_in_the_units_that_the_model_writes(make_data, units, scale):
    data = make_data(units=units)
    data.setup("fit")
    for index, raw in enumerate(data.train_set.samples[:9]):
        box = data.train_set[index].sample.evidence.boxes[0].box
        expected = [value * scale for value in raw.evidence.boxes[0].box]
        assert list(box) == pytest.approx(expected)


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
    path.write_text("".join(path.read_text().splitlines(keepends=True)[4:]))
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


def test_templates_come_from_files_too(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("system: Be brief.\ninstructions: {mcq: Letter only.}\n")
    template = load_template(str(path))
    assert (template.name, template.system) == ("t", "Be brief.")
    assert template.instructions == {Task.MCQ: "Letter only."}
    path.write_text("instructions: {mqc: Letter only.}\n")
    with pytest.raises(ValueError, match="unknown task 'mqc'"):
        load_template(str(path))
    path.write_text("instruction: x\n")
    with pytest.raises(ValueError, match="expected the keys name, system and instructions"):
        load_template(str(path))
    with pytest.raises(ValueError, match="'grounded', 'short'"):
        load_template("grunded")
