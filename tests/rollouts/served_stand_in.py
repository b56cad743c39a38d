"""A stand-in for a vLLM server: its addresses, and the in-process engine behind them.

It reads requests as vLLM does, from ids and packed pixels alone, holds weights of its own, and can
have the faults that a real one may have.
"""

import base64
import contextlib
import json
import threading
import traceback
from copy import deepcopy
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import msgpack
import torch
from safetensors.torch import load_file

from lit_vdistill.models.families import family_of
from lit_vdistill.models.prompt import EncodedPrompt, PromptFeatures
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.hf_engine import HFRolloutEngine


class StandIn:
    """Serves a copy of a network; `stop` and `start` are a server that dies and comes back."""

    def __init__(self, model, processor, faults=()):
        self._first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.engine = HFRolloutEngine(deepcopy(model).eval(), processor)
        self.faults, self.requests, self.calls, self.port = set(faults), [], [], 0
        self.refusal = None
        self._lock = threading.Lock()
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        """As a process that has just begun: the weights of its checkpoint."""
        self.version, self.is_paused, self.has_begun = "default", False, False
        self.engine.model.load_state_dict(self._first)
        self.connections = []
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(2)

    def post(self, path, body):
        with self._lock:
            self.calls.append(path)
            match path:
                case "/pause":
                    self.is_paused = True
                case "/start_weight_update":
                    if self.has_begun:
                        return 500, {"error": {"message": "a weight update is already active"}}
                    self.has_begun = True
                case "/update_weights":
                    assert self.has_begun, "start comes first"
                    self.load(body["update_info"]["path"])
                case "/finish_weight_update":
                    self.version, self.has_begun = body.get("weight_version", self.version), False
                case "/resume":
                    self.is_paused = False
                case "/inference/v1/generate":
                    if self.refusal:
                        return 400, {"error": {"message": self.refusal}}
                    assert not self.is_paused, "nothing is drawn between two sets of weights"
                    return 200, self.generate(body)
                case _:
                    return 404, {"error": {"message": "Not Found"}}
            return 200, {}

    def get(self, path):
        return {"/weight_info": {"weight_version": self.version}, "/health": {}}.get(path, {})

    def load(self, path):
        """As a checkpoint is loaded, by its names."""
        model = self.engine.model
        config = type(model.config).from_dict(model.config.to_dict())
        read = type(model).from_pretrained(None, config=config, state_dict=load_file(path))
        weights = read.state_dict()
        if "stale" in self.faults:
            return
        if "stale tower" in self.faults:
            weights = {name: w for name, w in weights.items() if "visual" not in name}
        model.load_state_dict(weights, strict=False)

    def generate(self, body):
        self.requests.append(body)
        told = body["sampling_params"]
        sampling = SamplingConfig(
            told["max_tokens"], told["temperature"], told["top_p"], told["top_k"]
        )
        prompt = self.read(body)
        (group,) = self.engine.generate([prompt], told["n"], sampling, seed=told["seed"])
        return {
            "choices": [
                {
                    "index": r.index,
                    "token_ids": list(r.completion_ids),
                    "finish_reason": "length" if r.is_truncated else "stop",
                    "logprobs": {"content": [{"logprob": p} for p in r.rollout_logprobs]},
                    "weight_versions": [
                        {"version": self.version, "start": 0, "end": len(r.completion_ids)}
                    ],
                }
                for r in reversed(group)  # in no order
            ]
        }

    def read(self, body):
        """The prompt of a request, its media looked at."""
        ids = torch.tensor(body["token_ids"])
        types = torch.zeros_like(ids)
        prompt = EncodedPrompt("asked", ids, types)
        if "features" not in body:
            return prompt
        backbone = self.engine.model.model
        family, grids, pooled, levels, seconds = family_of(backbone.config), [], [], [], None
        features = body["features"]
        media = [
            (place["offset"], place["length"], _unpacked(value))
            for kind, places in features["mm_placeholders"].items()
            for place, value in zip(places, features["kwargs_data"][kind], strict=True)
        ]
        for first, count, item in sorted(media, key=lambda medium: medium[0]):
            types[first : first + count] = 2
            pixels = next(v for name, v in item.items() if name.startswith("pixel"))
            grid = next(v for name, v in item.items() if name.endswith("grid_thw"))
            seconds = item.get("second_per_grid_ts", seconds)
            if "normalises again" in self.faults:
                pixels = (pixels - 0.5) / 0.5
            with torch.no_grad():
                seen = family.look(backbone, pixels, grid[None])
            grids.append(grid)
            pooled += list(seen.pooled)
            levels.append([level[0] for level in seen.deepstack])
        deepstack = tuple(tuple(level) for level in zip(*levels, strict=True))
        is_image = int(ids[types > 0][0]) == backbone.config.image_token_id
        prompt = replace(
            prompt,
            kind="image" if is_image else "video",
            grid_thw=torch.stack(grids),
            second_per_grid=None if seconds is None else float(seconds),
        )
        positions = family.positions(backbone, prompt)
        if "other positions" in self.faults:
            media_end = int(types.nonzero()[-1, 0]) + 1
            behind = positions[:, media_end:]
            moved = behind + (1 if pixels.shape[0] > 4 or len(grids) > 1 else 0)
            positions = torch.cat([positions[:, :media_end], moved], dim=1)
        return replace(prompt, features=PromptFeatures(tuple(pooled), deepstack, None, positions))


def _unpacked(value):
    item = msgpack.unpackb(base64.b64decode(value))
    found = {}
    for name, elem in item.items():
        dtype, shape, data = elem["data"]
        raw = torch.frombuffer(bytearray(data.data), dtype=torch.uint8)
        found[name] = raw.view(getattr(torch, dtype)).view(shape)
        assert elem["field"][0] in ("flat", "batched")
    return found


def _handler(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            server.connections.append(self.connection)

        def handle(self):
            with contextlib.suppress(OSError):
                super().handle()

        def do_GET(self):
            self.answer(200, server.get(urlsplit(self.path).path))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                status, reply = server.post(urlsplit(self.path).path, json.loads(body or b"{}"))
            except Exception as error:
                said = "".join(traceback.format_exception(error))[-400:]
                status, reply = 500, {"error": {"message": said}}
            with contextlib.suppress(OSError):
                self.answer(status, reply)

        def answer(self, status, reply):
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    return Handler
