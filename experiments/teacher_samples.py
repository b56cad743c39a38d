"""One sampled answer of a white-box teacher to every training prompt, as a pool for SFT.

python -m experiments.teacher_samples --teacher runs/sft_longer/student --pool runs/samples.jsonl

What on-policy distillation is compared with: the same teacher, prompts and student, but tokens that
the teacher has sampled. One answer a prompt, so that nothing is chosen by the truth. The embedded
world must have been rendered (any run of a recipe does it); prompts are those of the recipes.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from experiments.students import SAMPLING, Student
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.types import TeacherResponse


def sample(teacher: str, world: str, seed: int) -> Iterator[TeacherResponse]:
    """The teacher's answers, prompt after prompt, drawn as a student draws.

    Args:
        teacher: Folder of the teacher.
        world: Folder of the embedded world.
        seed: Of the draws.
    """
    student = Student.load(teacher, world)
    for _, drawn in student.answers(student.data.train_set, 1, seed):
        for (rollout,) in drawn:
            temperature = SAMPLING.temperature
            yield TeacherResponse(rollout.sample_id, 0, rollout.text, teacher, temperature, 1.0)


def main() -> None:
    """Sample and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="runs/sft_longer/student")
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
