"""What a run was: enough to know it again, and to make it again."""

import json
import logging
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.export_student import training_data
from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.evaluation.settings import versions, weights_of
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.tracking.model_card import fingerprint

logger = logging.getLogger(__name__)
PACKAGES = (
    "lit-vdistill", "torch", "torchvision", "lightning", "transformers", "deepspeed", "flash-attn",
    "torchmetrics", "jsonargparse", "numpy", "av", "decord2",
)  # fmt: skip
READINGS = (
    "model.disc.pair_weight", "model.disc.read_out", "model.disc.reward_transform",
    "model.disc.warmup_accuracy", "model.disc.warmup_max_steps", "model.matching.mode",
    "model.matching.empty_pool", "model.loss.advantage", "model.loss.kl_coef",
    "model.loss.kl_estimator", "model.credit.conditioning", "model.credit.evidence",
    "model.credit.feedback_as", "model.credit.dtype", "data.prompt.envelope",
)  # fmt: skip
"""Switches of README's "How we read the papers", without the classes that YAML lists: rewards with
their options, `ProximityAnnealing` and `EMATeacherUpdate`."""
_LISTED = ("ProximityAnnealing", "EMATeacherUpdate")
_MISSING = object()


class RunCard(Callback):
    """Writes what a run is at its start, and at its end how it went, to `<folder>/run_card.json`.

    Fingerprints of config, data, pool and student; commit, packages, hardware, threads, strategy,
    seed; how the papers are read in this run; steps, seconds and peak memory. A reading that a
    stage does not have is left out. A resumed run writes a card of its own, `steps.from` says
    where it began. Loggers get it as `run_card` among their hyper-parameters, W&B as config. The
    first process writes it, about its own machine. Only looks: leaving it out changes no weight.
    """

    def __init__(self, folder: str) -> None:
        """Set up.

        Args:
            folder: The run's, in which `config.yaml` lies and the card goes.
        """
        self.folder = Path(folder)
        self._card: dict[str, Any] = {}
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known before the first step."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._started = time.monotonic()
        config = self.folder / "config.yaml"
        is_told = config.is_file()
        told = yaml.safe_load(config.read_text(encoding="utf-8")) if is_told else {}
        self._card = {
            "outcome": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "stage": type(pl_module).__name__,
            "config": fingerprint(str(config)) if is_told else None,
            "seed": told.get("seed_everything"),
            "commit": commit(),
            "packages": {"python": platform.python_version(), **versions(PACKAGES)},
            "hardware": hardware(),
            "threads": {
                "torch": torch.get_num_threads(),
                "between_operations": torch.get_num_interop_threads(),
            },
            "strategy": {
                "name": type(trainer.strategy).__name__,
                "precision": str(trainer.precision),
                "processes": trainer.world_size,
                "nodes": trainer.num_nodes,
            },
            "data": _files(trainer, pl_module),
            "readings": readings(told),
            "steps": {"from": trainer.global_step, "to": None},
            "seconds": None,
            "peak_memory_gib": None,
        }
        self._write(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add how it went."""
        self._end(trainer, "finished")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Add why it ended: the error's name alone, as its text may quote anything."""
        code = f" {exception.code}" if isinstance(exception, SystemExit) else ""
        self._end(trainer, f"stopped by {type(exception).__name__}{code}")

    def _end(self, trainer: Trainer, outcome: str) -> None:
        if not self._card:
            return
        self._card["outcome"] = outcome
        self._card["steps"]["to"] = trainer.global_step
        self._card["seconds"] = round(time.monotonic() - self._started, 1)
        self._card["peak_memory_gib"] = peak_memory_gib()
        self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._card, indent=2, ensure_ascii=False, allow_nan=False)
        (self.folder / "run_card.json").write_text(text + "\n", encoding="utf-8")
        for run_logger in trainer.loggers:
            run_logger.log_hyperparams({"run_card": self._card})


def commit() -> str | None:
    """Of the repository that the command was run in, `-dirty` where tracked files were changed.

    None outside a repository, and without git.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        logger.info("the run card has no commit: %s", error)
        return None
    return found.stdout.strip() or None


def hardware() -> dict[str, Any]:
    """Of this machine; no name that would tell whose it is."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(count)],
    }


def peak_memory_gib() -> dict[str, float]:
    """The most that this process has held since its start, on the host and on its accelerator."""
    unit = 1 if sys.platform == "darwin" else 2**10
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"host": round(host / 2**30, 3), "accelerator": round(device / 2**30, 3)}


def readings(config: Mapping[str, Any]) -> dict[str, Any]:
    """How a run reads the papers where they leave something open.

    Args:
        config: The merged config, all defaults written out.

    Returns:
        Values by the name that the command line knows; classes of a list by their own name.
    """
    model = config.get("model") or {}
    data = config.get("data") or {}
    parts = {"model": model.get("init_args", model), "data": data.get("init_args", data)}
    found = {key: value for key in READINGS if (value := _at(parts, key)) is not _MISSING}
    rewards = parts["model"].get("rewards") or []
    callbacks = (config.get("trainer") or {}).get("callbacks") or []
    listed = [c for c in callbacks if c["class_path"].rpartition(".")[2] in _LISTED]
    for part, entries in (("rewards", rewards), ("callbacks", listed)):
        for entry in entries:
            options = entry.get("init_args") or {}
            name = options.get("name") or entry["class_path"].rpartition(".")[2]
            found[f"{part}.{name}"] = options
    return found


def _at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            return _MISSING
        tree = tree[name]
    return tree


def _files(trainer: Trainer, stage: LightningModule) -> dict[str, str | None]:
    """Fingerprints of what is learnt from, as the student's own card has them."""
    assert isinstance(stage, VLMStage), "RunCard needs a stage of lit_vdistill"
    found: dict[str, str | None] = {"student": weights_of(stage.policy_config.path)}
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, VideoDistillDataModule):
        files = training_data(data, stage.processor).files
        found |= {role: fingerprint(path) for role, path in files.items()}
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines: Sequence[str] = info.read_text(encoding="utf-8").splitlines() if info.is_file() else ()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
