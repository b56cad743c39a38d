"""How fast a pool is collected where the server costs nothing, and in how much memory.

python -m experiments.served_speed --json experiments/served_speed.json

10 000 questions of text, four responses in one call, 64 calls in flight, against a local server in
a process of its own that answers at once; then 1 000 questions with the eight frames of their
videos inlined. What is left is our own work: prompts, requests, replies, the pool and its journal.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml

from lit_vdistill.readers.records import write_records
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig

PORT, CHOICES, CONCURRENCY = 8021, 4, 64
TEXT = "<think>It is said at the start.</think><answer>B</answer>"


async def serve() -> None:
    """Answer each call at once, whatever it asks."""
    choices = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}
        for i in range(CHOICES)
    ]
    used = {"prompt_tokens": 40, "completion_tokens": 15 * CHOICES}
    body = json.dumps({"id": "x", "object": "chat.completion", "choices": choices, "usage": used})
    head = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    reply = ("\r\n".join([*head, "", ""]) + body).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                asked = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = next(
                int(line.split(b":")[1])
                for line in asked.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            writer.write(reply)
            await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", PORT, limit=2**24)
    async with server:
        await server.serve_forever()


def questions(folder: Path, count: int) -> Path:
    """Records of text."""
    path = folder / "train.jsonl"
    options = ("red", "blue", "green", "black")
    write_records(
        path,
        [
            VideoSample(f"q{i}", Task("mcq"), f"Which colour has number {i}?", "B",
                        media=None, media_type="text", options=options)
            for i in range(count)
        ],
    )  # fmt: skip
    return path


def collect(folder: Path, train: Path, root: Path, limit: int) -> dict[str, float]:
    """One collection in a process of its own: rate and memory."""
    pool = folder / f"pool_{limit}.jsonl"
    pool.unlink(missing_ok=True)
    teacher = {
        "class_path": "lit_vdistill.pool.served_teacher.ServedTeacher",
        "init_args": {
            "endpoint": {
                "base_url": f"http://127.0.0.1:{PORT}/v1", "model": "m", "concurrency": CONCURRENCY,
            },
            "media_root": str(root),
            "prompt": {"image_format": "jpeg", "frames": {"max_frames": 16, "max_pixels": 9216}},
        },
    }  # fmt: skip
    config = folder / "collect.yaml"
    given = {"teacher": teacher, "train_path": str(train), "pool_path": str(pool)}
    config.write_text(yaml.safe_dump({**given, "pool_size": CHOICES, "max_samples": limit}))
    command = [sys.executable, "-m", "lit_vdistill", "pool", "collect", "--config", str(config)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process, begun, seen = psutil.Process(run.pid), 0.0, []
    while run.poll() is None:
        done = pool.read_bytes().count(b"\n") if pool.is_file() else 0
        begun = begun or (time.monotonic() if done else 0.0)
        if begun:
            seen.append((done, process.memory_info().rss / 2**20))
        time.sleep(0.2)
    seconds = time.monotonic() - begun
    total = limit * CHOICES
    early = next(mib for done, mib in seen if done >= total // 5)
    return {
        "responses": pool.read_bytes().count(b"\n"),
        "responses_per_s": round(total / seconds, 1),
        "mib_at_a_fifth": round(early, 1),
        "mib_at_the_end": round(seen[-1][1], 1),
    }


def main() -> None:
    """Measure both, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/served_speed"))
    parser.add_argument("--serve", action="store_true", help="be the server")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve())
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    world = args.folder / "world"
    build_world(world, WorldConfig(train_videos=112, val_videos=1, test_videos=1))
    server = subprocess.Popen([sys.executable, "-m", "experiments.served_speed", "--serve"])
    try:
        time.sleep(2.0)
        train = questions(args.folder, 10_000)
        found = {"text": collect(args.folder, train, args.folder, 10_000)}
        found["frames"] = collect(args.folder, world / "train.jsonl", world, 1_000)
    finally:
        server.terminate()
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
