"""Shared prompts against the plain way and against TRL: time and memory in one process.

python -m experiments.speed --quick --json speed.json
python -m experiments.speed --size 76m --folder experiments/speed
python -m experiments.speed --family qwen3.5 --folder experiments/speed
python -m experiments.speed --questions --folder experiments/speed
python -m experiments.speed --folder experiments/speed

`--quick` runs the case of the README (at least 700 prompt tokens, 8 rollouts of 48 tokens) and
window steps in four minutes on two free cores. `--size` and `--family` compare on another network,
by itself. `--questions` asks five questions about one video, for 1 and 8 answers of 32 tokens each.
Without any of them the grid of prompt lengths and group sizes is run too, and a table, two CSV
files and a plot are written. Contestants take turns; every figure is a median of five rounds.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

from experiments.speed import cases, report
from experiments.speed.networks import PATH, build_arena
from lit_vdistill.models.tiny import TINY_FAMILIES, TINY_SIZES

PROMPT_TOKENS, NUM_ROLLOUTS, NUM_TOKENS = 700, 8, 48
ANSWERS, ANSWER_TOKENS = (1, 8), 32
"""Rollouts of each question about one video, and their length."""
GRID = [(tokens, n) for tokens in (256, 512, 1024, 2048) for n in (4, 8, 16)]
GRID += [(4096, 4), (4096, 8), (8192, 4)]
"""Prompt tokens and rollouts. Beyond these the dense side takes minutes a round on two cores."""
QWEN = [name for name in TINY_FAMILIES if name.startswith("qwen")]
"""What stock transformers is given the same way."""


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only the case of the README")
    parser.add_argument("--size", choices=TINY_SIZES, help="compare on this network, nothing else")
    parser.add_argument("--family", choices=QWEN, help="the same of this family, nothing else")
    parser.add_argument("--questions", action="store_true", help="about one video, nothing else")
    parser.add_argument("--json", type=Path, help="write the figures of that case here")
    parser.add_argument("--folder", type=Path, default=Path("runs/speed"), help="for the rest")
    parser.add_argument("--rounds", type=int, help="after the warm-up; 5, with --size 2")
    args = parser.parse_args()
    rounds, case = args.rounds or (2 if args.size else 5), (PROMPT_TOKENS, NUM_ROLLOUTS, NUM_TOKENS)
    other = "_".join(filter(None, (args.family, args.size)))
    path = f"{'tiny/' + args.family if args.family else PATH}/{args.size or '1m'}"
    if args.questions:
        arenas = [build_arena(PROMPT_TOKENS, count, ANSWER_TOKENS, path) for count in ANSWERS]
        figures = cases.questions(arenas, rounds)
    elif other:
        figures = cases.compare(build_arena(*case, path), rounds)
    else:
        figures = cases.quick_case(build_arena(*case), rounds)
    sys.stdout.write(report.quick_table(figures) + "\n")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    if args.questions or other:
        name = "questions" if args.questions else "quick"
        report.write_figures(args.folder, f"{'_'.join(filter(None, (name, other)))}.json", figures)
    elif not args.quick:
        rows = []
        for tokens, rollouts in GRID:
            rows.append(cases.grid_case(build_arena(tokens, rollouts, NUM_TOKENS), rounds))
            sys.stdout.write(report.grid_line(rows[-1]) + "\n")
            sys.stdout.flush()
        report.write(args.folder, figures, rows)


if __name__ == "__main__":
    # Of this process: whoever imports `main` goes on hearing what libraries say.
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
