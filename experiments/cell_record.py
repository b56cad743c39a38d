"""What is kept of a finished cell, from its run's folder and its student's graded answers."""

import csv
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments.answers import Answered, answers_of, start_of
from experiments.results import Record
from experiments.sweep_file import hash_of
from lit_vdistill import jsonl
from lit_vdistill.tasks import Task
from lit_vdistill.world.scenes import Split

POINTS = 30
"""Of a curve: each the mean of a block of steps."""
MEASURES = ("greedy", "mean", "best", "reward")
_PACKAGES = ("torch", "lightning", "transformers", "torchmetrics", "numpy")
_CURVES = ("reward/", "rollout/reward_std", "policy/grad_norm", "policy/entropy")
_SUMMARISED = ("reward/", "policy/", "credit/", "judge/", "disc/", "match/", "kl/", "rollout/")


def measured(run: Path, config: Mapping[str, Any], splits: Sequence[Split], starts: Path) -> Record:
    """What a finished run's folder says, and its student's graded answers.

    Args:
        run: Its folder.
        config: Its merged values, of which K and the number of prompts are taken.
        splits: Held-out questions to be asked.
        starts: Folder in which the answers of students that runs start from are kept.
    """
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    began, world = time.monotonic(), config["data"]["init_args"]["sources"]["media_root"]
    start, steps = start_of(run), int(config["trainer"]["max_steps"])
    weights = weights_hash(Path(start))
    after = {s: means(answers_of(str(run / "student"), world, s, run)) for s in splits}
    # A start that is no folder is drawn anew by each run, and nobody can ask it any more.
    starts.mkdir(parents=True, exist_ok=True)
    with FileLock(starts / "answers.lock"):
        asked = splits if weights else ()
        before = {s: means(answers_of(start, world, s, starts / weights)) for s in asked}
    logged = training_values(run)
    return {
        "steps": steps,
        "seconds": {"fit": summary["seconds"], "answers": round(time.monotonic() - began, 1)},
        "start": {"path": start, "weights": weights},
        "before": before,
        "after": after,
        "training": {
            name: {"mean": _rounded(statistics.mean(v)), "final": _rounded(final(v))}
            for name, (_, v) in logged.items()
            if name.startswith(_SUMMARISED)
        },
        "curves": {
            name: thinned(*curve, steps)
            for name, curve in logged.items()
            if name.startswith(_CURVES)
        },
        "tokens": total_tokens(logged, steps),
        "teacher_responses": teacher_responses(config, logged),
        "judged_rollouts": sum(logged.get("judge/rollouts", ([], []))[1]),
        "alarms": alarms_of(run),
    }


def made_of(config: Mapping[str, Any], arguments: Sequence[str], threads: int) -> Record:
    """Of what and on what a cell was made."""
    return {
        "config_hash": hash_of(dict(config)),
        "stage": config["model"]["class_path"],
        "arguments": list(arguments),
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": threads,
    }


def commit() -> str:
    """The checked-out commit, with `-changed` where files that git knows are not as in it."""
    head, changes = (
        subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()
        for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    )
    return head + ("-changed" if changes else "")


def weights_hash(student: Path) -> str:
    """Of a student's weights on disk; empty where it is no folder."""
    if not student.is_dir():
        return ""
    found = hashlib.sha256()
    for path in sorted(student.glob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def means(answers: Sequence[Answered]) -> dict[str, float]:
    """Mean of each measure, by task as `<measure>/<task>`, and of closed and open ones.

    A measure that no question has is left out, and a question that lacks it does not count.
    """
    groups: dict[str, list[Answered]] = {"": list(answers)}
    for item in answers:
        groups.setdefault(f"/{item.task}", []).append(item)
        kind = "/closed" if Task(item.task).is_closed_ended else "/open"
        groups.setdefault(kind, []).append(item)
    found = {}
    for suffix, members in groups.items():
        for measure in MEASURES:
            values = [v for item in members if math.isfinite(v := getattr(item, measure))]
            if values:
                found[measure + suffix] = _rounded(statistics.mean(values))
    return found


def training_values(run: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and finite values of all that a run has logged in training."""
    path = run / "csv" / "metrics.csv"
    found: dict[str, tuple[list[int], list[float]]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if not text or name == "step" or name.startswith("val/"):
                    continue
                if math.isfinite(value := float(text)):
                    steps, values = found.setdefault(name, ([], []))
                    steps.append(int(row["step"]))
                    values.append(value)
    return found


def alarms_of(run: Path) -> list[str] | None:
    """What `TrainingHealth` has said, with its steps; None for a run without it."""
    path = run / "health.jsonl"
    if not path.exists():
        return None
    return [f"{row['alarm']} in step {row['step']}" for _, row in jsonl.read(path)]


def thinned(steps: Sequence[int], values: Sequence[float], total: int) -> list[list[float]]:
    """A curve in blocks of steps: [steps taken at the block's end, mean of its values]."""
    size = max(1, math.ceil(total / POINTS))
    blocks: dict[int, list[float]] = {}
    for step, value in zip(steps, values, strict=True):
        blocks.setdefault(step // size, []).append(value)
    return [
        [min((block + 1) * size, total), _rounded(statistics.mean(found))]
        for block, found in sorted(blocks.items())
    ]


def final(values: Sequence[float]) -> float:
    """Mean over the last tenth."""
    return statistics.mean(values[-max(1, len(values) // 10) :])


def total_tokens(logged: Mapping[str, Any], steps: int) -> float:
    """Prompt and completion tokens of a run; where not every step is logged, by those that are."""
    _, known = logged.get("step/tokens", ([], []))
    return sum(known) * steps / len(known) if known else 0.0


def teacher_responses(config: Mapping[str, Any], logged: Mapping[str, Any]) -> float:
    """Responses of the pool that a run could draw from: K to each prompt of each window.

    Of SFT those that it has learnt from, one a prompt, of however many they are the best.

    Args:
        config: Its merged values.
        logged: Its curves; `match/responses` has the mean K of each step, where K differs.
    """
    model = config["model"]
    given = model.get("init_args", {})
    stage = model["class_path"].rpartition(".")[2]
    if stage not in ("RMSDModule", "SFTModule"):
        return 0
    per_step = config["data"]["init_args"]["loader"]["batch_size"]
    if stage == "SFTModule":
        return config["trainer"]["max_steps"] * per_step
    if not given["disc"]["reward_weight"]:
        return 0
    if given["matching"].get("pool_size_if_unequal"):
        return round(per_step * sum(logged["match/responses"][1]), 1)
    return config["trainer"]["max_steps"] * per_step * given["matching"]["pool_size"]


def _rounded(value: float) -> float:
    return round(value, 6)
