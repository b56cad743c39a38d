"""Five questions a video, asked by `evaluate run` and by lmms-eval's own class of the same model.

Both answer the same questions about the same frames greedily, in bfloat16 on one thread. Whole
commands are timed, a small set and a larger one in turns; their difference is what questions cost,
without what it takes to start.

    python -m experiments.evaluation.speed --json experiments/evaluation/speed.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from lit_vdistill.evaluation.lmms_eval import run as run_lmms_eval
from lit_vdistill.evaluation.lmms_eval_command import LmmsEvalConfig
from lit_vdistill.readers.records import read_records, write_records
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig

STUDENT = "experiments/stage1/student"
WORLD = Path("runs/world")
FRAMES, PIXELS, TOKENS = 8, 173_056, 96
TASKS = (Task.MCQ, Task.BINARY, Task.NUMERICAL, Task.OCR, Task.TEMPORAL_GROUNDING)


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--videos", type=int, nargs=2, default=[4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    build_world(WORLD, WorldConfig())
    samples, _ = read_records(WORLD / "test.jsonl")
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        sets = [_questions(samples, count) for count in args.videos]
        seconds: dict[str, list[float]] = defaultdict(list)
        tokens = 0
        for _ in range(args.rounds):
            ours = [_ours(home, asked) for asked in sets]
            theirs = [_lmms_eval(home, asked) for asked in sets]
            more = len(sets[1]) - len(sets[0])
            seconds["ours"].append((ours[1][0] - ours[0][0]) / more)
            seconds["lmms_eval"].append((theirs[1] - theirs[0]) / more)
            tokens = ours[1][1]
    found = {
        "questions": [len(asked) for asked in sets],
        "videos": args.videos,
        "mean_prompt_tokens": tokens,
        "seconds_a_question": {name: median(values) for name, values in seconds.items()},
        "rounds": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
        "ratio": median(
            theirs / own for own, theirs in zip(seconds["ours"], seconds["lmms_eval"], strict=True)
        ),
    }
    args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def _questions(samples: list[VideoSample], videos: int) -> list[VideoSample]:
    chosen = list(dict.fromkeys(sample.media for sample in samples))[:videos]
    return [one for one in samples if one.media in chosen and one.task in TASKS]


def _ours(home: Path, asked: list[VideoSample]) -> tuple[float, int]:
    """Seconds of the command, and mean tokens of a prompt."""
    write_records(WORLD / "speed.jsonl", asked)
    folder = home / "ours"
    line = [
        sys.executable, "-m", "lit_vdistill", "evaluate", "run",
        "--config", "configs/benchmarks/world.yaml", "--student", STUDENT,
        "--benchmark.file=speed.jsonl", f"--run_dir={folder}", "--overwrite", "--cache_dir=null",
        f"--frames.max_frames={FRAMES}", f"--frames.min_pixels={PIXELS}",
        f"--frames.max_pixels={PIXELS}", f"--sampling.max_completion_tokens={TOKENS}",
        "--network.dtype=bfloat16", "--loader.batch_size=5", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    spent = time.perf_counter() - began
    (WORLD / "speed.jsonl").unlink()
    return spent, _prompt_tokens(folder / "predictions.jsonl")


def _prompt_tokens(path: Path) -> int:
    from lit_vdistill.models.vlm import load_processor

    tokenizer: Any = load_processor(STUDENT).tokenizer
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    # A row has one placeholder for all that stand side by side.
    edge = round(PIXELS**0.5) // 32
    lengths = [
        len(tokenizer(row["prompt"]).input_ids)
        + (edge * edge - 1) * row["prompt"].count("<|video_pad|>")
        for row in rows
    ]
    return round(sum(lengths) / len(lengths))


def _lmms_eval(home: Path, asked: list[VideoSample]) -> float:
    """Seconds of its command."""
    rows = [
        {
            "video": str((WORLD / str(one.media)).resolve()),
            "question": "\n".join(
                [one.question, *(f"{'ABCDEF'[i]}. {text}" for i, text in enumerate(one.options))]
            ),
            "answer": f"<answer>{one.answer}</answer>",
        }
        for one in asked
    ]
    task = {
        "task": "world_speed",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(home / "questions.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": "video",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (home / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "world_speed.yaml").write_text(yaml.safe_dump(task))
    config = LmmsEvalConfig(
        tasks="world_speed", max_num_frames=FRAMES, min_pixels=PIXELS, max_pixels=PIXELS,
        max_new_tokens=TOKENS, system_prompt="", device="cpu", include_path=str(home),
    )  # fmt: skip
    began = time.perf_counter()
    run_lmms_eval(config, STUDENT, str(home / "theirs"))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
