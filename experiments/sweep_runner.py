"""A cell with a seed, and what runs it: fit, answers and result."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from experiments.cell_record import made_of, measured
from experiments.results import Record, Stored, write
from experiments.sweep_file import (
    Cell,
    Sweep,
    SweepFileError,
    config_of,
    expanded,
    hash_of,
)
from lit_vdistill.world.scenes import Split

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
