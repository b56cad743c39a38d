"""How lmms-eval is told what to run: its settings, and the command line that they make."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_vdistill.served.endpoint import EndpointConfig

ENVIRONMENT = "~/.cache/lit_vdistill/lmms_eval"
_MODELS = {
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_5": "qwen3_5",
    "qwen3_5_moe": "qwen3_5",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl",
}
"""lmms-eval's class for a `model_type` of config.json."""
_EVERY_FRAME_FPS = 1000
"""More than any video has: `max_num_frames` decides, and a video may have fewer frames."""


@dataclass(frozen=True)
class LmmsEvalConfig:
    """What lmms-eval runs, and how a student sees and answers there."""

    tasks: str
    """Names of lmms-eval with commas between, `*` for any letters: `videomme,mlvu_dev`."""
    max_num_frames: int = 64
    """Frames of a video at the most, evenly from the first to the last; lmms-eval's own is 32."""
    fps: float | None = None
    """Frames a second where that is fewer; null reads `max_num_frames` of every video."""
    max_pixels: int = 200_704
    """Largest width × height of a frame and of an image."""
    min_pixels: int = 3_136
    """Smaller ones are scaled up to it; lmms-eval's own, 200 704, would outweigh `max_pixels`."""
    max_new_tokens: int = 1024
    """Of a response, in place of each task's own: most leave 16, where reasoning is cut off."""
    reasoning_tags: tuple[tuple[str, str], ...] = (("<think>", "</think>"),)
    """What stands between them is left out before scoring; none scores the response as it is."""
    system_prompt: str | None = None
    """System turn in place of lmms-eval's own; "" is an empty one."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """How transformers computes attention."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Weights are bfloat16 on both."""
    num_processes: int = 1
    """One for each GPU; questions are shared out among them."""
    limit: int | None = None
    """First questions of each task; null is all."""
    include_path: str | None = None
    """Folder with task files of your own."""
    judge: EndpointConfig | None = None
    """A language model that extracts and judges answers of MathVista and MathVerse."""
    environment: str = ENVIRONMENT
    """Virtual environment that holds lmms-eval (`make test-eval` makes it)."""

    def __post_init__(self) -> None:
        """Refuse what lmms-eval would take for something else.

        Raises:
            ValueError: Names the key, what came and what to set.
        """
        for key in ("max_num_frames", "max_new_tokens", "num_processes", "limit"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ValueError(f"{key}: expected 1 or more, got {value}")
        if self.max_num_frames % 2:
            raise ValueError(
                f"max_num_frames: expected an even number, got {self.max_num_frames}; Qwen's "
                "towers take frames in pairs"
            )
        if self.fps is not None and not 0 < self.fps <= _EVERY_FRAME_FPS:
            raise ValueError(f"fps: expected above 0 and at most 1000, or null, got {self.fps}")
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(
                f"min_pixels: expected 1 to max_pixels ({self.max_pixels}), got {self.min_pixels}"
            )
        if not self.names:
            raise ValueError("tasks: expected names with commas between, e.g. videomme,mlvu_dev")
        if self.device == "cpu" and self.num_processes > 1:
            raise ValueError(
                f"num_processes: lmms-eval has one process on cpu, got {self.num_processes}; set 1"
            )
        _passable("system_prompt", self.system_prompt or "")

    @property
    def names(self) -> list[str]:
        """The tasks, each by itself."""
        return [name.strip() for name in self.tasks.split(",") if name.strip()]


def command_of(config: LmmsEvalConfig, student: str, output: Path) -> list[str]:
    """The command line, which depends on the student's family.

    Args:
        config: What is run.
        student: Folder of an exported student.
        output: Where lmms-eval is to write.

    Raises:
        ValueError: When lmms-eval cannot load the student, or reads a setting otherwise.
    """
    command = [str(python_of(config)), "-m"]
    if config.num_processes > 1:
        command += ["accelerate.commands.launch", "--num_processes", str(config.num_processes)]
        command += ["--main_process_port", "0", "-m"]
    model, arguments = _model(config, student)
    tags = json.dumps(config.reasoning_tags) if config.reasoning_tags else "none"
    command += [
        "lmms_eval", "--model", model,
        "--model_args", ",".join(f"{key}={value}" for key, value in arguments.items()),
        "--tasks", ",".join(config.names), "--batch_size", "1",
        "--gen_kwargs", f"max_new_tokens={config.max_new_tokens},temperature=0",
        "--reasoning_tags", tags, "--log_samples", "--output_path", str(output.resolve()),
    ]  # fmt: skip
    if config.include_path is not None:
        command += ["--include_path", str(Path(config.include_path).resolve())]
    if config.limit is not None:
        command += ["--limit", str(config.limit)]
    return command


def _model(config: LmmsEvalConfig, student: str) -> tuple[str, dict[str, Any]]:
    """lmms-eval's class for a student, and what it is told."""
    kind = _model_type(student)
    model, path = _MODELS[kind], str(Path(student).resolve())
    arguments: dict[str, Any] = {"pretrained": _passable("student", path)}
    # lmms-eval tells a mixture by its path, and loads the wrong class otherwise.
    if model != "qwen2_5_vl" and kind.endswith("_moe") != bool(re.search(r"A\d+B", path)):
        raise ValueError(
            f"student {path}: lmms-eval takes a folder for a mixture of experts where its path has "
            f"A3B or the like, and for a dense network elsewhere; this one is {kind}: rename it"
        )
    if config.device == "cpu":
        arguments |= {"device": "cpu", "device_map": "cpu"}
    arguments |= {
        "max_num_frames": config.max_num_frames,
        "min_pixels": config.min_pixels,
        "max_pixels": config.max_pixels,
        "attn_implementation": config.attn_implementation,
    }
    if model == "qwen2_5_vl":
        # Its class in lmms-eval 0.7 counts frames itself, and knows no other system turn.
        for key, effect in (("fps", "drops max_num_frames then"), ("system_prompt", "drops it")):
            if getattr(config, key) is not None:
                raise ValueError(f"{key}: for Qwen2.5-VL lmms-eval {effect}; set null")
        return model, arguments
    arguments["fps"] = _EVERY_FRAME_FPS if config.fps is None else config.fps
    if config.system_prompt is not None:
        arguments["system_prompt"] = config.system_prompt
    return model, arguments


def _model_type(student: str) -> str:
    described = Path(student) / "config.json"
    if not described.is_file():
        raise ValueError(
            f"student: expected the folder of an exported student, {described} is missing; "
            "`python -m lit_vdistill export` makes one of a checkpoint"
        )
    try:
        kind = json.loads(described.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError(f"{described}: expected a JSON object of transformers: {error}") from error
    if not isinstance(kind, str) or kind not in _MODELS:
        raise ValueError(
            f"{described}: model_type {kind!r} is none that is run by lmms-eval here: "
            f"{', '.join(_MODELS)}"
        )
    return kind


def _passable(key: str, text: str) -> str:
    """A text that stands in lmms-eval's arguments as it is.

    Raises:
        ValueError: When it would be cut or quoted there.
    """
    if wrong := sorted(set(text) & set(",'\"[]{}")):
        raise ValueError(
            f"{key}: {' '.join(wrong)} cannot be passed to lmms-eval, which splits its arguments "
            f"by them; write it without: {text!r}"
        )
    return text


def python_of(config: LmmsEvalConfig) -> Path:
    """The interpreter of its environment.

    Raises:
        ValueError: When there is none; says how to make it.
    """
    python = Path(config.environment).expanduser() / "bin/python"
    if not python.is_file():
        raise ValueError(
            f"environment {config.environment}: no {python}; `make test-eval` makes it"
        )
    return python
