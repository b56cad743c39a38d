"""R-MSD, VISD and GRPO whose rollouts a real vLLM draws, beside the same runs in process.

python -m experiments.served_rollouts --json experiments/served_rollouts.json

Starts `serve --rollouts file` with the stage-1 student and trains 40 steps of each method on it,
with three seeds, weights sent at every step; at every step greedy completions of engine and policy
are compared, and the log-probabilities of all tokens of the window. One run of GRPO follows whose
server is killed behind step 10 and comes back, and all of them in process. It needs vLLM
(`lit_vdistill/rollouts/README.md`) and `runs/world`.
"""

import argparse
import contextlib
import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from experiments.served_judge import wait_for

PORT, STEPS, SEEDS, KILLED_AT = 8042, 40, (0, 1, 2), 10
Runs = list[list[dict[str, str]]]
METHODS = {
    # The policy learns from the first step on, so that every step compares all tokens.
    "rmsd": ["--config", "configs/rmsd.yaml", "--model.disc.warmup_max_steps", "0"],
    "visd": ["--config", "configs/visd.yaml", "--model.sampling.top_p", "0.95",
             "--model.sampling.top_k", "50",
             "--stage1_config", "null", "--model.policy.path", "experiments/stage1/student"],
    "grpo": ["--config", "configs/grpo.yaml"],
}  # fmt: skip


class GreedyCheck(Callback):
    """Counts greedy completions that engine and policy do not share, at the start of every step."""

    def __init__(self, path: str, prompts: int = 4) -> None:
        """Set up.

        Args:
            path: Gets a line a step: how many were compared, and how many were equal.
            prompts: So many of a window are asked.
        """
        self.path, self.prompts = path, prompts

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Compare before anything of the step is done."""
        from dataclasses import replace

        from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
        from lit_vdistill.stages.on_policy import OnPolicyModule

        assert isinstance(pl_module, OnPolicyModule)
        if not batch.is_first or pl_module.policy is None:
            return
        greedy = replace(pl_module.sampling, temperature=0.0, top_p=1.0, top_k=0)
        prompts = batch.window.prompts[: self.prompts]
        pl_module.engine.synchronise()
        theirs = pl_module.engine.generate(prompts, 1, greedy, seed=0)
        own = HFRolloutEngine(pl_module.policy, pl_module.processor)
        ours = own.generate(prompts, 1, greedy, seed=0)
        pairs = list(zip(theirs, ours, strict=True))
        same = sum(a.completion_ids == b.completion_ids for (a,), (b,) in pairs)
        with Path(self.path).open("a") as file:
            file.write(json.dumps({"compared": len(pairs), "equal": same}) + "\n")


def served(log: Path, student: str = "experiments/stage1/student") -> subprocess.Popen[bytes]:
    """A server for rollouts, once it answers."""
    command = [sys.executable, "-m", "lit_vdistill", "serve", "--student", student, "--rollouts"]
    command += ["file", "--port", str(PORT), "--dtype", "float32", "--max_model_len", "2048"]
    with log.open("a") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    wait_for(f"http://127.0.0.1:{PORT}/health", 300.0)
    return server


def started(method: str, folder: Path, seed: int, *, is_served: bool) -> subprocess.Popen[bytes]:
    """A run of 40 steps of 16 prompts."""
    options = [*METHODS[method], "--model.sampling.seed", str(seed)]
    if is_served:
        named = "--model.sampling.engine.init_args"
        options += ["--config", "configs/rollouts/vllm.yaml", "--model.loss.mismatch", "none",
                    f"{named}.url", f"http://127.0.0.1:{PORT}", f"{named}.patience_s", "120",
                    "--trainer.callbacks+=experiments.served_rollouts.GreedyCheck",
                    f"--trainer.callbacks.path={folder}.greedy"]  # fmt: skip
    options += ["--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(STEPS)]
    options += ["--data.loader.batch_size", "16", "--trainer.limit_val_batches", "0"]
    command = [sys.executable, "-m", "lit_vdistill", "fit", *options, "--run_dir", str(folder)]
    with folder.with_suffix(".log").open("w") as file:
        return subprocess.Popen([*command, "--overwrite"], stdout=file, stderr=file)


def ended(run: subprocess.Popen[bytes], folder: Path) -> list[dict[str, str]]:
    """The steps of a run, once it is over."""
    if run.wait():
        raise SystemExit(f"{folder}: the run has failed; look at {folder.with_suffix('.log')}")
    return steps(folder)


def steps(folder: Path) -> list[dict[str, str]]:
    """What a run has logged until now, a row a step."""
    path = folder / "csv/metrics.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return [row for row in csv.DictReader(file) if row.get("reward/total")]


def column(rows: list[dict[str, str]], name: str) -> list[float]:
    """A metric by step, where it was measured."""
    return [float(row[name]) for row in rows if row.get(name) not in ("", "nan", None)]


def report(method: str, served_runs: Runs, others: Runs, folders: list[Path]) -> dict[str, Any]:
    """What served runs were, beside those in process, seed by seed."""
    gaps = [column(rows, "rollout/logprob_gap_max") for rows in served_runs]
    greedy = [Path(f"{folder}.greedy").read_text().splitlines() for folder in folders]
    told = [json.loads(line) for lines in greedy for line in lines]
    ours, theirs = (
        [column(rows, "reward/total") for rows in runs] for runs in (served_runs, others)
    )
    means, other_means = ([statistics.mean(run) for run in runs] for runs in (ours, theirs))
    spread = [statistics.variance(of) / len(of) for of in (means, other_means)]
    return {
        "method": method,
        "steps": [len(rows) for rows in served_runs],
        "steps_compared": [len(gap) for gap in gaps],
        "largest_gap": max(max(gap) for gap in gaps),
        "greedy_compared": sum(line["compared"] for line in told),
        "greedy_equal": sum(line["equal"] for line in told),
        "reward_means": means,
        "reward_means_in_process": other_means,
        "reward_less_in_process": statistics.mean(means) - statistics.mean(other_means),
        "its_standard_error": sum(spread) ** 0.5,
        "last_10": [statistics.mean(run[-10:]) for run in ours],
        "last_10_in_process": [statistics.mean(run[-10:]) for run in theirs],
    }


def killed(folder: Path, log: Path, server: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Run GRPO, kill its server behind a step, and start another a while later."""
    run = started("grpo", folder, 0, is_served=True)
    while len(steps(folder)) < KILLED_AT:
        if run.poll() is not None:
            raise SystemExit(f"{folder}: the run has ended before its server was killed")
        time.sleep(0.2)
    stop(server, signal.SIGKILL)
    time.sleep(10.0)
    server = served(log)
    ended(run, folder)
    return server


def stop(server: subprocess.Popen[bytes], kind: signal.Signals = signal.SIGTERM) -> None:
    """End a server and the processes that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, kind)
    server.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def folder_of(root: Path, method: str, seed: int, *, is_served: bool) -> Path:
    """Where a run lies."""
    return root / f"{method}_{'served' if is_served else 'in_process'}_{seed}"


def fitted(root: Path, method: str, *, is_served: bool) -> Runs:
    """The runs of a method, seed after seed; one that has ended there is taken as it is."""
    found = []
    for seed in SEEDS:
        folder = folder_of(root, method, seed, is_served=is_served)
        if (folder / "summary.json").is_file():
            found.append(steps(folder))
        else:
            found.append(ended(started(method, folder, seed, is_served=is_served), folder))
    return found


def main() -> None:
    """Serve, train, kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/served_rollouts"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--go_on", action="store_true", help="keep runs that have ended there")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    root, log, figures = args.folder, args.folder / "server.log", {}
    if not args.go_on:
        shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    server = served(log)
    try:
        ours = {method: fitted(root, method, is_served=True) for method in args.methods}
        if "grpo" in args.methods:
            if not (root / "grpo_killed/summary.json").is_file():
                server = killed(root / "grpo_killed", log, server)
            again = steps(root / "grpo_killed")
            both = [column(rows, "reward/total") for rows in (ours["grpo"][0], again)]
            same = sum(a == b for a, b in zip(*both, strict=True))
            figures = {"killed": {"steps": len(again), "steps_with_the_same_reward": same}}
    finally:
        stop(server)
    found = []
    for method in args.methods:
        others = fitted(root, method, is_served=False)
        folders = [folder_of(root, method, seed, is_served=True) for seed in SEEDS]
        found.append(report(method, ours[method], others, folders))
    text = json.dumps({"methods": found, **figures}, indent=2)
    sys.stdout.write(text + "\n")
    if args.json is not None:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
