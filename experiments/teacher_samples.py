"""One sampled answer of a white-box teacher to every training prompt, as a pool for SFT.

python -m experiments.teacher_samples --teacher runs/teacher_4m/student --pool runs/samples.jsonl

What on-policy distillation is compared with: the same teacher, prompts and student, but tokens that
the teacher has sampled. One answer a prompt, so that nothing is chosen by the truth. The embedded
world must have been rendered (any run of a recipe does it); prompts are those of the recipes.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from lit_vdistill.data.datamodule import SourceConfig, VideoDistillDataModule
from lit_vdistill.data.dataset import Item, PromptConfig
from lit_vdistill.media.video import FrameConfig
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.types import TeacherResponse

SAMPLING = SamplingConfig(max_completion_tokens=80)
BATCH = 96
"""Prompts that are read at a time."""


def sample(teacher: str, world: str, seed: int) -> Iterator[TeacherResponse]:
    """The teacher's answers, prompt after prompt, drawn as a student draws.

    Args:
        teacher: Folder of the teacher.
        world: Folder of the embedded world.
        seed: Of the draws.
    """
    sources = SourceConfig(f"{world}/train.jsonl", f"{world}/val.jsonl", world)
    frames = FrameConfig(num_frames=16, max_pixels=4096)
    data = VideoDistillDataModule(teacher, sources, frames, PromptConfig(template="short"))
    data.setup("fit")
    engine = HFRolloutEngine(load_model(VLMConfig(teacher)), data.processor)
    count = len(data.train_set)
    for first in range(0, count, BATCH):
        items = [data.train_set[i] for i in range(first, min(first + BATCH, count))]
        prompts = [item.prompt for item in items if isinstance(item, Item)]
        for (rollout,) in engine.generate(prompts, 1, SAMPLING, seed=seed):
            text = rollout.text
            yield TeacherResponse(rollout.sample_id, 0, text, teacher, SAMPLING.temperature, 1.0)
        sys.stdout.write(f"\r{min(first + BATCH, count)} of {count} prompts")
        sys.stdout.flush()


def main() -> None:
    """Sample and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="runs/teacher_4m/student")
    parser.add_argument("--world", default="runs/world")
    parser.add_argument("--pool", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.pool.exists():
        raise SystemExit(f"{args.pool} exists; name another file")
    PoolStore(args.pool).append(sample(args.teacher, args.world, args.seed))
    sys.stdout.write(f"\n{args.pool}\n")


if __name__ == "__main__":
    main()
