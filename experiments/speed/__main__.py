"""Shared prompts against the plain way and against TRL: time and memory in one process.

python -m experiments.speed --quick --json speed.json
python -m experiments.speed --folder experiments/speed

`--quick` runs the case of the README (at least 700 prompt tokens, 8 rollouts of 48 tokens) in under
two minutes. Without it the grid of prompt lengths and group sizes is run too, and a table, a CSV
file and a plot are written. Contestants take turns; every figure is a median of five rounds.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

from experiments.speed import contestants, report
from experiments.speed.measure import medians, peak_bytes
from experiments.speed.networks import Arena, build_arena

PROMPT_TOKENS, NUM_ROLLOUTS, NUM_TOKENS = 700, 8, 48
GRID = [(tokens, n) for tokens in (256, 512, 1024, 2048) for n in (4, 8, 16)]
GRID += [(4096, 4), (4096, 8), (8192, 4)]
"""Prompt tokens and rollouts. Beyond these the dense side takes minutes a round on two cores."""


def quick_case(arena: Arena, rounds: int) -> dict[str, float]:
    """The ratios of the case of the README: how many times less time or memory ours takes."""
    train = medians(contestants.training(arena), rounds)
    rollout = medians(contestants.rollout(arena), rounds)
    step = medians(contestants.rmsd_step(arena), rounds)
    grpo = medians(contestants.grpo_step(arena), rounds)
    memory = {name: peak_bytes(run) for name, run in contestants.training(arena).items()}
    return {
        "prompt_tokens": len(arena.prompt.input_ids),
        "train_shared_vs_dense": train["dense"] / train["shared"],
        "train_shared_vs_dense_video_once": train["dense, video once"] / train["shared"],
        "rollout_vs_stock": rollout["stock"] / rollout["shared"],
        "step_vs_dense": step["dense"] / step["shared"],
        "step_vs_trl": grpo["TRL"] / grpo["shared"],
        "peak_memory_vs_dense": memory["dense"] / memory["shared"],
        "peak_memory_vs_dense_video_once": memory["dense, video once"] / memory["shared"],
        "seconds/train": train["shared"],
        "seconds/rollout": rollout["shared"],
        "seconds/rmsd_step": step["shared"],
        "seconds/grpo_step": grpo["shared"],
        "seconds/trl_grpo_step": grpo["TRL"],
    }


def grid_case(arena: Arena, rounds: int) -> report.GridRow:
    """Training and rollouts at one prompt length and group size."""
    train = medians(contestants.training(arena), rounds)
    rollout = medians(contestants.rollout(arena), rounds)
    memory = {name: peak_bytes(run) for name, run in contestants.training(arena).items()}
    return report.GridRow(
        prompt_tokens=len(arena.prompt.input_ids),
        rollouts=arena.num_rollouts,
        train_shared_s=train["shared"],
        train_dense_s=train["dense"],
        train_dense_video_once_s=train["dense, video once"],
        rollout_shared_s=rollout["shared"],
        rollout_stock_s=rollout["stock"],
        memory_shared_mib=memory["shared"] / 2**20,
        memory_dense_mib=memory["dense"] / 2**20,
        memory_dense_video_once_mib=memory["dense, video once"] / 2**20,
    )


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only the case of the README")
    parser.add_argument("--json", type=Path, help="write the ratios of that case here")
    parser.add_argument("--folder", type=Path, default=Path("runs/speed"), help="for the grid")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the warm-up")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    ratios = quick_case(build_arena(PROMPT_TOKENS, NUM_ROLLOUTS, NUM_TOKENS), args.rounds)
    sys.stdout.write(report.quick_table(ratios) + "\n")
    if args.json:
        args.json.write_text(json.dumps(ratios, indent=1) + "\n")
    if not args.quick:
        rows = []
        for tokens, rollouts in GRID:
            rows.append(grid_case(build_arena(tokens, rollouts, NUM_TOKENS), args.rounds))
            sys.stdout.write(report.grid_line(rows[-1]) + "\n")
            sys.stdout.flush()
        report.write(args.folder, ratios, rows)


if __name__ == "__main__":
    main()
