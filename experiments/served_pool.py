"""A pool from a real server, its collection killed again and again: nothing lost, nothing twice.

python -m lit_vdistill serve --config configs/teacher/serve_stage1.yaml
python -m experiments.served_pool --json experiments/served_pool.json

The first command stays. The second runs `pool collect` with `configs/teacher/stage1_vllm.yaml`,
kills it with SIGKILL at random moments, in each sixth of the way, lets the last run come to its
end, and counts calls between client and server. It needs `runs/world`, which the recipes render.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from experiments.served_judge import wait_for
from lit_vdistill.pool.store import PoolStore

CONFIG = "configs/teacher/stage1_vllm.yaml"
KILLS = 5


class Counting:
    """Hands calls on to a server, and counts them by their seed, which names sample and index."""

    def __init__(self, server: str) -> None:
        """Name the server behind it; a context, `url` is where it listens."""
        self.seeds: Counter[int] = Counter()
        counted, opener = self, build_opener(ProxyHandler({}))

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                if len(body := self.rfile.read(length)) < length:
                    return  # killed while it asked
                counted.seeds[json.loads(body)["seed"]] += 1
                asked = Request(server + self.path, body, {"Content-Type": "application/json"})
                with opener.open(asked) as found:
                    said = found.read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                try:
                    self.wfile.write(said)
                except OSError:  # the client was killed
                    self.close_connection = True

            def handle(self) -> None:
                """A killed client's connection ends without notice."""
                with contextlib.suppress(ConnectionError):
                    super().handle()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on the terminal."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "Counting":
        """Listen."""
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop listening."""
        self._http.shutdown()


def collect(url: str, pool: Path, kill_at: int | None, wait_s: float) -> tuple[int, str]:
    """One run, killed so many seconds after the pool has so many responses, or not."""
    command = [sys.executable, "-m", "lit_vdistill", "pool", "collect", "--config", CONFIG]
    command += ["--pool_path", str(pool), "--teacher.init_args.endpoint.base_url", url]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
    )
    if kill_at is not None:
        while run.poll() is None and _count(pool) < kill_at:
            time.sleep(0.002)
        time.sleep(wait_s)
        run.kill()
    out, _ = run.communicate()
    return run.returncode, out


def _count(pool: Path) -> int:
    return pool.read_bytes().count(b"\n") if pool.is_file() else 0


def main() -> None:
    """Collect under fire, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:8011")
    parser.add_argument("--pool", type=Path, default=Path("runs/pool_stage1_vllm.jsonl"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    for old in (args.pool, args.pool.with_name(f"{args.pool.name}.calls")):
        old.unlink(missing_ok=True)
    wait_for(f"{args.server}/health", 180.0)
    rng, told, calls, begun = random.Random(args.seed), [], [], time.monotonic()
    with Counting(args.server) as server:
        for kill in range(KILLS + 1):
            kill_at = rng.randrange(800 * kill // 6, 800 * (kill + 1) // 6)
            at = kill_at if kill < KILLS else None
            code, out = collect(server.url, args.pool, at, rng.uniform(0.0, 0.05))
            told += [int(line.split()[0]) for line in out.splitlines() if "in flight" in line]
            calls.append(sum(server.seeds.values()))
    lines = args.pool.read_text().splitlines()
    pools = PoolStore(args.pool).load()
    found = {
        "exit_code": code,
        "responses": len(lines),
        "samples": len(pools),
        "responses_of_a_sample": sorted({len(pool) for pool in pools.values()}),
        "calls_at_the_server": calls[-1],
        "calls_asked_again": sum(count - 1 for count in server.seeds.values()),
        "said_to_be_in_flight": told,
        "seconds": round(time.monotonic() - begun, 1),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
