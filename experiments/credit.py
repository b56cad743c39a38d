"""What token credit finds, and which way it turns the gradient, under every condition and control.

python -m experiments.credit --student runs/sft_privileged/student --json experiments/credit.json

The student answers held-out questions of the embedded world, two videos a window; a copy of it that
is told or sees more replays its tokens, and controls do without one (`credit_conditions.py`). On
the same rollouts two things are measured: whether -Δ finds the tokens that are wrong
(`localisation.py`), and whether credit turns the policy's gradient towards that of true responses
(`alignment.py`).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch.utils.data import Subset

from experiments import alignment, localisation
from experiments.alignment import Alignment
from experiments.credit_conditions import CLIP, experience_of, log_ratios
from experiments.localisation import JudgedToken
from experiments.students import Student
from lit_vdistill.stages.step import Experience
from lit_vdistill.world.config import WorldConfig

WINDOW = 18
"""Questions: nine about each of two videos."""


def windows(
    student: Student, num_rollouts: int, seed: int, limit: int | None
) -> Iterator[Experience]:
    """The student's answers to whole videos, a window at a time."""
    held_out = student.data.val_set
    held_out.show_teacher(CLIP)
    count = min(len(held_out), limit or len(held_out))
    for first in range(0, count - WINDOW + 1, WINDOW):
        chosen = Subset(held_out, range(first, first + WINDOW))
        with torch.no_grad():
            ((batch, drawn),) = student.answers(chosen, num_rollouts, seed)
        yield experience_of(batch, drawn)


def main() -> None:
    """Sample, replay, judge, take gradients and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="runs/sft_privileged/student")
    parser.add_argument("--world", default="runs/world", help="of the default size and seed")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--rollouts", type=int, default=8, help="answers to each question")
    parser.add_argument("--questions", type=int, help="only so many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    student = Student.load(args.student, args.world, args.split)
    truth = alignment.true_responses(WorldConfig(), args.split)
    tokens: list[JudgedToken | None] = []
    cosines: list[list[Alignment]] = []
    for window in windows(student, args.rollouts, args.seed, args.questions):
        with torch.no_grad():
            ratios = log_ratios(student.model, student.processor, window, args.seed)
        tokens += localisation.judge_tokens(student.processor, window, ratios)
        found = alignment.aligned(student.model, student.processor, window, ratios, truth)
        cosines += [found] if found else []
    known = [token for token in tokens if token is not None]
    located = localisation.report(known, len(tokens) - len(known))
    turned = alignment.report(cosines)
    sys.stdout.write(f"\n{localisation.table(located)}\n\n{alignment.table(turned)}\n")
    if args.json:
        rows = {name: asdict(row) for name, row in turned.items()}
        written = {"localisation": located, "alignment": rows}
        args.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
