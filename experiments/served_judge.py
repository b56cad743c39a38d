"""VISD whose judge is served by a real vLLM, which is killed in mid-run.

python -m experiments.served_judge --json experiments/served_judge.json

Starts `serve` with the stage-1 student, which is no judge: its feedback is what it would say of any
prompt, read leniently. The point is the path. Half-way the server is killed: what it does not judge
is counted, and the teacher sees answer and evidence alone. Some prompts are longer than the server
takes; each is a failure of its own. It needs vLLM (`lit_vdistill/pool/README.md`) and `runs/world`.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import yaml

PORT, LENGTH = 8031, 1130
STEPS, KILLED_AT = 12, 6


def options(folder: Path) -> Path:
    """A config file that names the judge."""
    judge = {
        "class_path": "lit_vdistill.judge.served_judge.OpenAIJudge",
        "init_args": {
            "endpoint": {
                "base_url": f"http://127.0.0.1:{PORT}/v1", "model": "judge", "deadline_s": 10.0,
            },
            "replies": {"temperature": 1.0, "max_tokens": 64, "reading": "lenient",
                        "budget_s": 20.0},
        },
    }  # fmt: skip
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump({"model": {"init_args": {"judge": judge}}}))
    return path


def wait_for(url: str, seconds: float) -> None:
    """Until somebody listens there."""
    opener, end = build_opener(ProxyHandler({})), time.monotonic() + seconds
    while True:
        try:
            opener.open(url, timeout=1.0)
            return
        except (URLError, OSError) as error:
            if time.monotonic() > end:
                raise SystemExit(f"{url} does not answer within {seconds:g} s") from error
            time.sleep(1.0)


def rows(folder: Path, run: str = "run") -> list[dict[str, str]]:
    """Steps that a run has logged."""
    path = folder / run / "csv/metrics.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return [row for row in csv.DictReader(file) if row.get("judge/failures")]


def main() -> None:
    """Serve, train, kill, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/served_judge"))
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    tool = [sys.executable, "-m", "lit_vdistill"]
    served = ["--student", "experiments/stage1/student", "--name", "judge", "--port", str(PORT)]
    served += ["--dtype", "float32", "--max_model_len", str(LENGTH)]
    with (args.folder / "server.log").open("w") as log:
        server = subprocess.Popen([*tool, "serve", *served], stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{PORT}/health", 180.0)
            run = subprocess.Popen(
                [
                    *tool, "fit", "--config", "configs/visd.yaml",
                    "--config", str(options(args.folder)), "--run_dir", str(args.folder / "run"),
                    "--overwrite", "--stage1_config", "null",
                    "--model.policy.path", "experiments/stage1/student",
                    "--trainer.max_steps", str(STEPS), "--trainer.val_check_interval", str(STEPS),
                    "--trainer.num_sanity_val_steps", "0", "--trainer.limit_val_batches", "1",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
            while run.poll() is None and len(rows(args.folder)) < KILLED_AT:
                time.sleep(0.2)
        finally:
            server.kill()
    code, steps = run.wait(), rows(args.folder)
    found = {
        "exit_code": code,
        "steps": len(steps),
        "killed_behind_step": KILLED_AT,
        "failures": [round(float(row["judge/failures"]), 3) for row in steps],
        "judged_rollouts": [int(float(row["judge/rollouts"])) for row in steps],
    }
    sys.stdout.write(json.dumps(found) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
