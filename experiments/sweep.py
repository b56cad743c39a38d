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
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from experiments.cell_record import made_of, measured
from experiments.claims import read_claims, splits_of
from experiments.results import RESULTS, Record, Stored, compared, stored, write
from experiments.sweep_file import (
    Cell,
    Sweep,
    SweepFileError,
    config_of,
    expanded,
    hash_of,
    read_sweep,
)
from lit_vdistill.world.scenes import Split

ESTIMATE_S = 6.0
"""Seconds a step with all that stands around it, where no result tells: a quarter of an hour for
150 steps on two cores, as `experiments/README.md` has it."""
State = Literal["done", "crashed", "crashed now", "to run"]


@dataclass(frozen=True, slots=True)
class Job:
    """A cell with a seed."""

    cell: Cell
    seed: int
    config: Mapping[str, Any]
    key: str
    """Hash of its merged config."""

    @property
    def name(self) -> str:
        """As its result is called."""
        return f"{self.cell.name}-{self.seed}"

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return int(self.config["trainer"]["max_steps"])


@dataclass(frozen=True, slots=True)
class Runner:
    """Where a sweep is run and kept, and how."""

    sweep: Sweep
    splits: tuple[Split, ...]
    folder: Path
    """Of runs, each in `<hash>-<seed>`."""
    results: Path
    threads: int
    began: float = field(default_factory=time.time)
    """Since when; what has crashed later is not run again."""

    def state(self, job: Job, known: Stored) -> State:
        """Whether there is something to do."""
        record = known.get((job.key, job.seed))
        if record is not None and set(self.splits) <= set(record["after"]):
            return "done"
        mark = self._mark(job)
        if not mark.is_file():
            return "to run"
        return "crashed now" if mark.stat().st_mtime > self.began else "crashed"

    def home(self, job: Job) -> Path:
        """Run folder of a job; the same of all sweeps that have it."""
        return self.folder / f"{job.key}-{job.seed}"

    @contextmanager
    def held(self, job: Job) -> Iterator[bool]:
        """Have a job for oneself, or learn that another process has it."""
        home = self.home(job)
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / "cell.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def run(self, job: Job) -> bool:
        """Fit, ask and write down; False where the fit has crashed."""
        home = self.home(job)
        made = home / "made_of.json"
        self._mark(job).unlink(missing_ok=True)
        if not (home / "summary.json").is_file():
            for answered in home.glob("graded_*.jsonl"):
                answered.unlink()
            told = made_of(job.config, job.cell.arguments, self.threads)
            made.write_text(json.dumps(told), encoding="utf-8")
            words = ["--seed_everything", str(job.seed), "--run_dir", str(home), "--overwrite"]
            fit = expanded(
                self.sweep.command, self.sweep.program, job.cell.parameters, sys.executable
            )
            if not (self._start(job) and self._call([*fit, *words], home / "log.txt")):
                self._mark(job).write_text("see log.txt\n", encoding="utf-8")
                return False
        torch.set_num_threads(self.threads)
        record: Record = {"sweep": self.sweep.name, "cell": job.cell.name, "seed": job.seed}
        record |= json.loads(made.read_text(encoding="utf-8"))
        record |= measured(home, job.config, self.splits, self.folder / "starts")
        write(record, self.results)
        return True

    def end_of_log(self, job: Job, count: int = 8) -> str:
        """What a crashed job said last."""
        text = (self.home(job) / "log.txt").read_text(encoding="utf-8", errors="replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-count:])

    def _mark(self, job: Job) -> Path:
        return self.home(job) / "crashed"

    def _start(self, job: Job) -> bool:
        """Fit the student that a job starts from, where it is missing, with seed 0 for all seeds.

        The command would fit it with the seed of the cell that happens to come first. One process
        fits it, while others wait.
        """
        with FileLock(self.folder / "starts.lock"):
            return self._fit_start(job)

    def _fit_start(self, job: Job) -> bool:
        for folder, *files in job.config.get("stage1_config") or []:
            wanted = job.config["model"]["init_args"]["policy"]["path"]
            if Path(wanted).is_relative_to(folder) and not Path(wanted).exists():
                named = [word for file in files for word in ("--config", file)]
                words = [sys.executable, "-m", self.sweep.program, "fit", *named]
                words += ["--run_dir", folder, "--seed_everything", "0"]
                return self._call(words, self.home(job) / "log.txt")
        return True

    def _call(self, words: list[str], log: Path) -> bool:
        """Run a command to its end; it ends with this process, and logs to W&B only if told."""
        known = {"WANDB_MODE": "disabled", **os.environ, "OMP_NUM_THREADS": str(self.threads)}
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                words, stdout=file, stderr=subprocess.STDOUT, env=known, check=False
            )
        return done.returncode == 0


def jobs_of(sweep: Sweep, seeds: tuple[int, ...], only: list[str] | None) -> list[Job]:
    """All cells of a seed before those of the next, so that what is there can be compared.

    Raises:
        SweepFileError: For a cell that the sweep does not have.
    """
    names = [cell.name for cell in sweep.cells]
    if unknown := sorted(set(only or ()) - set(names)):
        raise SweepFileError(f"--only: {sweep.name} has no cells {unknown}; it has {names}")
    chosen = [cell for cell in sweep.cells if only is None or cell.name in only]
    made = [(cell, config) for cell in chosen for config in [config_of(cell)]]
    return [Job(cell, seed, config, hash_of(config)) for seed in seeds for cell, config in made]


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
        SweepFileError: For a cell that has no result, or one of other threads.
    """
    for job in jobs:
        record = known.get((job.key, job.seed))
        if record is None or record["threads"] != runner.threads:
            why = f"took {record['threads']} threads: --threads" if record else "has no result"
            raise SweepFileError(f"--again: {job.name} {why}")
    folder = runner.folder / "again"
    second = replace(runner, folder=folder, results=folder / "results")
    is_same = not run_all(second, jobs, rerun_crashed=True)
    found = stored(second.results)
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


def main() -> None:
    """List or run a sweep's cells."""
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
