"""Shared fixtures. The package is imported inside them: the jaxtyping hook must come first."""

import os

# Before torch is imported: test processes that start others must not fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import pytest


@pytest.fixture
def make_sample():
    """Builds a sample with what its task needs."""
    from lit_vdistill.types import BoxAt, Evidence, Task, VideoSample

    def build(task="mcq", answer="B", **changes):
        fields = {
            "id": "s1",
            "task": Task(task),
            "question": "What?",
            "answer": answer,
            "media": "v.mp4",
            "options": ("cat", "dog", "cow") if "mcq" in task else (),
            "evidence": Evidence(
                spans=((2.0, 8.0),), boxes=(BoxAt(3.0, "dog", (0.0, 0.0, 100.0, 100.0)),)
            ),
        }
        return VideoSample(**(fields | changes))

    return build


@pytest.fixture(scope="session")
def families():
    """The tiny students by family: model and processor, random weights from a fixed seed."""
    import torch

    from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor

    built = {}
    for family in ("qwen3-vl", "qwen2.5-vl"):
        torch.manual_seed(0)
        path = f"tiny/{family}"
        built[family] = (load_model(VLMConfig(path)), load_processor(path))
    return built


@pytest.fixture
def make_prompt():
    """Builds an encoded prompt on random pixels; the same name gives the same prompt."""
    import numpy as np

    from lit_vdistill.models.prompt import Medium, encode_prompt

    def build(processor, name, kind="video", question="When is the red shape visible?", frames=8):
        video = processor.video_processor
        edge = video.patch_size * video.merge_size * 2
        content = [{"type": "text", "text": question}]
        medium = None
        if kind != "text":
            content.insert(0, {"type": kind})
            count = frames if kind == "video" else 1
            rng = np.random.default_rng(sum(name.encode()))
            pixels = rng.integers(0, 255, (count, edge, edge, 3), dtype=np.uint8)
            medium = Medium(kind, pixels, tuple(i * 0.5 for i in range(count)))
        return encode_prompt(processor, [{"role": "user", "content": content}], medium, name)

    return build


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A small embedded world on disk."""
    from lit_vdistill.data.synthetic import WorldConfig
    from lit_vdistill.data.world import build_world

    root = tmp_path_factory.mktemp("world") / "world"
    build_world(root, WorldConfig(train_videos=4, val_videos=1))
    return root
