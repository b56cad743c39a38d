"""An epoch over more media than the budget holds: prints MiB that are kept, and that were grown by.

python -m tests.data.epoch_in_memory MIB
"""

import sys

import numpy as np

from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.models.vlm import load_processor
from lit_vdistill.responses.prompts import TEMPLATES
from lit_vdistill.stages.resident import resident_gib
from lit_vdistill.tasks import Task
from lit_vdistill.types import Medium, VideoSample

_FRAMES, _EDGE = 8, 256


class _Noise:
    def read(self, media: str, kind: str) -> Medium:
        rng = np.random.default_rng(int(media))
        frames = rng.integers(0, 255, (_FRAMES, _EDGE, _EDGE, 3), dtype=np.uint8)
        return Medium("video", frames, tuple(float(i) for i in range(_FRAMES)))


def main(budget_mib: float) -> None:
    samples = [
        VideoSample(f"{i}", Task.BINARY, "Is it?", "yes", media=str(i // 2)) for i in range(160)
    ]
    order = np.random.default_rng(0).permutation(len(samples))
    dataset, warm = (
        PromptDataset(
            samples, {}, _Noise(), load_processor("tiny/qwen3-vl"), TEMPLATES["short"],
            PromptConfig(), gib,
        )
        for gib in (budget_mib / 1024, 0.0)
    )  # fmt: skip
    for index in order[:20]:
        assert warm[int(index)].sample.id == str(index)
    before = resident_gib()
    for index in order:
        assert dataset[int(index)].sample.id == str(index)
    grown = 1024 * (resident_gib() - before)
    sys.stdout.write(f"{dataset._arena.used / 2**20} {grown}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]))
