"""Runs the cells of a sweep file that have no result yet, one after another.

python -m experiments.sweep experiments/sweeps/rmsd_components.yaml --list
python -m experiments.sweep experiments/sweeps/rmsd_components.yaml --seeds 5
python -m experiments.sweep experiments/sweeps/rmsd_components.yaml --only rmsd_c --seeds 1 --again

A cell is an ordinary `python -m lit_vdistill fit` with the cell's recipe and overrides and a seed.
Afterwards its student answers the validation split, and the test split where a claim says so. What
is kept lies in `experiments/results/<sweep>/<cell>-<seed>.json` and is not made again unless a
value changes, so that a sweep goes on anywhere; a cell that another sweep has run counts too. One
that is stopped leaves no result. One that crashed is named, with the end of its log, and left
alone until `--rerun-crashed`. `--workers 2` runs two cells at a time, each by `--threads 1`: small
networks take less of two cores together than one cell with both. What another process runs at
the moment is left to it. `--again` runs stored cells once more, in folders of their own, and says
whether all figures are the same to the digit.

All cells of a seed share their random numbers. Data order is a function of seed and epoch
(`data/sampler.py`), draws of seed, step, sample and rollout (`rollouts/engine.py`), matching of the
same and of nothing that was drawn before (`pool/matching.py`); weights that are new, such as a
discriminator's head, come from the seed. So cells part where what they learn parts them.
"""

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.claims import read_claims, splits_of
from experiments.results import RESULTS, Stored, compared, stored
from experiments.sweep_file import SweepFileError, read_sweep
from experiments.sweep_runner import Job, Runner, jobs_of

ESTIMATE_S = 6.0
"""Seconds a step with all that stands around it, where no result tells: a quarter of an hour for
150 steps on two cores, as `experiments/README.md` has it."""


def seconds_a_step(known: Stored, stage: str) -> float | None:
    """Measured mean over the results of a stage's class; None without any."""
    found = [
        sum(record["seconds"].values()) / record["steps"]
        for record in known.values()
        if record["stage"] == stage
    ]
    return statistics.mean(found) if found else None


def listed(runner: Runner, jobs: list[Job], known: Stored) -> str:
    """Jobs with their states, and the hours of those that are to be run."""
    lines, hours, is_guessed = [], 0.0, False
    for job in jobs:
        state, record = runner.state(job, known), known.get((job.key, job.seed))
        pace = seconds_a_step(known, job.config["model"]["class_path"])
        took = (ESTIMATE_S if pace is None else pace) * job.steps / 3600
        where = ""
        if state == "done" and record is not None:
            where = f" ({record['sweep']}/{record['cell']})"
        else:
            hours, is_guessed = hours + took, is_guessed or pace is None
            where = f" {'~' if pace is None else ''}{took:.2f} h"
        lines.append(f"{job.name:40} {job.key} {state}{where}")
    guess = f" (~ is an estimate: {ESTIMATE_S:g} s a step, measured nowhere)" if is_guessed else ""
    return "\n".join([*lines, f"{hours:.1f} hours to run{guess}"])


def run_all(runner: Runner, jobs: list[Job], *, rerun_crashed: bool) -> list[Job]:
    """Run what has no result and nobody else runs; gives those that have crashed, now or before."""
    crashed = []
    for number, job in enumerate(jobs, 1):
        if runner.state(job, stored(runner.results)) == "done":
            continue
        with runner.held(job) as is_ours:
            if not is_ours:
                _say(f"{number} of {len(jobs)}: {job.name} is run by another process")
                continue
            state = runner.state(job, stored(runner.results))
            if state == "done":  # by one who has had it until now
                continue
            _say(f"{number} of {len(jobs)}: {job.name}")
            is_left = state == "crashed now" or (state == "crashed" and not rerun_crashed)
            if is_left or not runner.run(job):
                crashed.append(job)
                _say(f"{job.name} has crashed:\n{runner.end_of_log(job)}")
    return crashed


def run_again(runner: Runner, jobs: list[Job], known: Stored) -> bool:
    """Run stored cells once more, and say where they are not the same to the digit.

    Raises:
        SweepFileError: For a cell that has no result, or one of other threads; while another
            process compares.
    """
    for job in jobs:
        record = known.get((job.key, job.seed))
        if record is None or record["threads"] != runner.threads:
            why = f"took {record['threads']} threads: --threads" if record else "has no result"
            raise SweepFileError(f"--again: {job.name} {why}")
    folder = runner.folder / "again"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(runner.folder / "again.lock", timeout=0):
            # What an earlier call has run is not this code's.
            shutil.rmtree(folder)
            second = replace(runner, folder=folder, results=folder / "results")
            is_same = not run_all(second, jobs, rerun_crashed=True)
            found = stored(second.results)
    except Timeout as error:
        raise SweepFileError(f"--again: {folder} is used by another process; wait") from error
    for job in jobs:
        if (job.key, job.seed) in found:
            told = compared(known[job.key, job.seed], found[job.key, job.seed])
            sys.stdout.write(f"{job.name}: {told}\n")
            is_same = is_same and not told.unlike
    return is_same


def run_side_by_side(words: Sequence[str], workers: int) -> int:
    """The same command by several processes, who divide the jobs; 1 if one has failed."""
    command = [sys.executable, "-m", "experiments.sweep", *words, "--workers", "1"]
    running: list[subprocess.Popen[bytes]] = []
    try:
        running += [subprocess.Popen(command) for _ in range(workers)]
        statuses = [process.wait() for process in running]
        return int(any(statuses))
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _stop(number: int, frame: object) -> None:
    # As an exception, so that `subprocess.run` ends the fit too.
    raise SystemExit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, help="how many; else those of the file")
    parser.add_argument("--first_seed", type=int, default=0, help="with --seeds; 5 for fresh ones")
    parser.add_argument("--only", nargs="+", metavar="CELL")
    parser.add_argument("--list", action="store_true", help="say what there is to do, and stop")
    parser.add_argument("--rerun-crashed", action="store_true")
    parser.add_argument("--again", action="store_true", help="run stored cells again, and compare")
    parser.add_argument("--threads", type=int, default=1, help="OMP_NUM_THREADS of each cell")
    parser.add_argument("--workers", type=int, default=1, help="cells at a time")
    parser.add_argument("--folder", type=Path, default=Path("runs/sweeps"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.again and args.workers > 1:
        parser.error("--again compares cells one after another: leave --workers out")
    if args.first_seed and args.seeds is None:
        parser.error("--first_seed says where --seeds N begins: say how many, or leave it out")
    if min(args.workers, args.threads, 1 if args.seeds is None else args.seeds) < 1:
        parser.error("--seeds, --workers and --threads: expected 1 or more")
    return args


def main() -> None:
    """List or run a sweep's cells."""
    args = _arguments()
    signal.signal(signal.SIGTERM, _stop)
    try:
        sweep = read_sweep(args.file)
        seeds = sweep.seeds
        if args.seeds is not None:
            seeds = tuple(range(args.first_seed, args.first_seed + args.seeds))
        jobs, known = jobs_of(sweep, seeds, args.only), stored(args.results)
        splits = tuple(splits_of(sweep.name, read_claims()))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    runner = Runner(sweep, splits, args.folder, args.results, args.threads)
    if args.list:
        sys.stdout.write(listed(runner, jobs, known) + "\n")
        return
    if args.again:
        try:
            sys.exit(not run_again(runner, jobs, known))
        except SweepFileError as error:
            sys.exit(f"error: {error}")
    if args.workers > 1:
        sys.exit(run_side_by_side(sys.argv[1:], args.workers))
    if crashed := run_all(runner, jobs, rerun_crashed=args.rerun_crashed):
        again = "--rerun-crashed runs them again"
        sys.exit(
            f"{len(crashed)} of {len(jobs)} have crashed: {[j.name for j in crashed]}; {again}"
        )


if __name__ == "__main__":
    main()
