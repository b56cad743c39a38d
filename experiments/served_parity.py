"""Whether vLLM samples from the policy itself, family by family: ids, pixels, log-probabilities.

python -m experiments.served_parity --json experiments/served_parity.json

Serves the tiny student of each family (random weights) by a real vLLM, moves all weights of the
policy, the tower's too, sends them, and compares what the server says of its own tokens with what
the policy says of them, for a text, two images, and videos of four and eight frames; then greedy
completions, token by token. It needs vLLM (`lit_vdistill/rollouts/README.md`).
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, ProcessorMixin

from experiments.served_rollouts import stop
from lit_vdistill.models.encode import encode_prompt
from lit_vdistill.models.families import family_of_processor
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
from lit_vdistill.models.weights import checkpoint_weights
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine
from lit_vdistill.rollouts.parity import gap_of
from lit_vdistill.rollouts.vllm_engine import VLLMRolloutEngine
from lit_vdistill.types import Medium

PORT = 8043
FAMILIES = ("qwen3-vl", "qwen3-vl-moe", "qwen2.5-vl", "qwen3.5", "qwen3.5-moe", "internvl3.5")
SAMPLED = SamplingConfig(max_completion_tokens=24)
GREEDY = replace(SAMPLED, temperature=0.0)


def prompts_of(processor: ProcessorMixin) -> list[EncodedPrompt]:
    """A text, two images, a short and a longer video, of random pixels."""
    edge = family_of_processor(processor).frame_factor(processor) * 2
    made, asked = [], {"type": "text", "text": "When is the red shape visible?"}
    for name, kind, count in (("t", "text", 0), ("i", "image", 2), ("v", "video", 4),
                              ("w", "video", 8)):  # fmt: skip
        pixels = np.random.default_rng(count).integers(0, 255, (count, edge, edge, 3), np.uint8)
        media = [{"type": kind}] * (count if kind == "image" else 1)
        content = [asked] if kind == "text" else [*media, asked]
        times_s = tuple(i * 0.75 for i in range(count))
        medium: Any = None if kind == "text" else Medium(kind, pixels, times_s)
        turn = [{"role": "user", "content": content}]
        made.append(encode_prompt(processor, turn, medium, name))
    return made


@contextmanager
def served(student: Path, dtype: str) -> Iterator[str]:
    """A server for rollouts, once it answers; its address.

    Raises:
        RuntimeError: When it ends before; with the last error of its log.
    """
    log, url = log_of(student), f"http://127.0.0.1:{PORT}"
    command = [sys.executable, "-m", "lit_vdistill", "serve", "--student", str(student)]
    command += ["--port", str(PORT), "--dtype", dtype, "--max_model_len", "2048"]
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--rollouts", "file"], stdout=file, stderr=file, start_new_session=True
        )
    opener = build_opener(ProxyHandler({}))
    try:
        while True:
            try:
                opener.open(f"{url}/health", timeout=2.0)
                break
            except (URLError, OSError):
                if server.poll() is not None:
                    raise RuntimeError(last_error(log)) from None
        yield url
    finally:
        stop(server)


def log_of(student: Path) -> Path:
    """What its server says."""
    return student.parent / f"{student.name}.log"


def last_error(log: Path) -> str:
    """What a server's log says that it has died of: the first exception of a worker."""
    found = re.findall(r" ERROR .*?(\b\w+(?:Error|Exception): .*)$", log.read_text(), re.MULTILINE)
    return found[0][:200] if found else f"it has ended; see {log}"


def moved(model: PreTrainedModel) -> None:
    """All weights are others now, the tower's too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=generator))


def compared(name: str, folder: Path, dtype: str = "float32") -> dict[str, Any]:
    """One family's row."""
    torch.manual_seed(0)
    path = f"tiny/{name}"
    config: Any = VLMConfig(path, dtype=dtype)
    model, processor = load_model(config), load_processor(path)
    student = folder / name
    model.save_pretrained(student)
    save_file(checkpoint_weights(model), student / "model.safetensors", {"format": "pt"})
    processor.save_pretrained(student)
    row: dict[str, Any] = {"family": name, "dtype": dtype}
    try:
        with served(student, dtype) as url:
            engine = VLLMRolloutEngine(model.eval(), processor, url=url, patience_s=60.0)
            moved(model)
            engine.synchronise()
            for prompt in prompts_of(processor):
                told = f"{prompt.kind} of {len(prompt.times_s)}" if prompt.times_s else "text"
                row[told] = gap_of(engine, model, [prompt], SAMPLED, 4)
            prompts = prompts_of(processor)
            theirs = engine.generate(prompts, 1, GREEDY, seed=0)
            ours = HFRolloutEngine(model, processor).generate(prompts, 1, GREEDY, seed=0)
            pairs = zip(theirs, ours, strict=True)
            row["greedy_equal"] = sum(a.completion_ids == b.completion_ids for (a,), (b,) in pairs)
            row["greedy_compared"] = len(prompts)
    except (RuntimeError, NotImplementedError) as error:
        said = last_error(log_of(student))
        row["stopped"] = said if "Error" in said else str(error)[:300]
    return row


def main() -> None:
    """Serve and compare, family by family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/served_parity"))
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    rows = []
    for name in args.families:
        rows.append(compared(name, args.folder, args.dtype))
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
