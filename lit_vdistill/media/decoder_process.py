"""The owner of the process that decodes."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

import lit_vdistill

PACKAGE = Path(lit_vdistill.__file__).parent
# This very copy of the package, and the folder that holds it for no other import: neither it nor
# the folder in which the run was started may hide a library.
START = """
import sys
sys.path.insert(0, sys.argv[1])
import lit_vdistill
del sys.path[0]
from lit_vdistill.media.decode_worker import serve
serve(sys.stdin.buffer, sys.stdout.buffer)
"""


class MediaError(Exception):
    """A medium that cannot be used; the message says why."""


class DecoderProcess:
    """Owns a `decode_worker` process and kills it when it is late."""

    def __init__(self) -> None:
        """Start nothing yet: the process comes with the first request."""
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A data-loader worker gets an owner of its own; a process does not travel."""
        return {"_process": None, "_end": None}

    def decode(
        self, request: dict[str, Any], timeout_s: float
    ) -> tuple[dict[str, Any], np.ndarray]:
        """What the process answers to a request, see `decode_worker.handle`.

        Raises:
            MediaError: When it says that it cannot, dies or takes longer than `timeout_s`.
        """
        process = self._running()
        assert process.stdin is not None
        deadline = time.monotonic() + timeout_s
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            header = json.loads(self._read_line(deadline))
            if "error" in header:
                raise MediaError(header["error"])
            raw = self._read(int(np.prod(header["shape"])), deadline)
        except (TimeoutError, BrokenPipeError, EOFError) as error:
            code = self.close()
            if isinstance(error, TimeoutError):
                reason = f"decoding took longer than data.frames.decode_timeout_s ({timeout_s} s)"
            else:
                reason = f"the decoder process died on it (exit code {code})"
            raise MediaError(reason) from error
        return header, np.frombuffer(raw, dtype=np.uint8).reshape(header["shape"]).copy()

    def close(self) -> int | None:
        """End the process; its exit code when it had died on its own."""
        code = None if self._end is None else self._end()
        self._process = self._end = None
        return code

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # Unbuffered, as reading polls the descriptor: a buffer would hide what has arrived.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(PACKAGE.parent)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
            # At the owner's end or the interpreter's, whichever comes first.
            self._end = weakref.finalize(self, _end, self._process)
        return self._process

    def _read_line(self, deadline: float) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._read(1, deadline)
        return bytes(line)

    def _read(self, count: int, deadline: float) -> bytearray:
        assert self._process is not None
        assert self._process.stdout is not None
        stream, data = self._process.stdout, bytearray()
        # Not `select`, which knows the first 1 024 open files only.
        waiting = select.poll()
        waiting.register(stream, select.POLLIN)
        while len(data) < count:
            if not waiting.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.read(stream.fileno(), min(count - len(data), 1 << 20))
            if not part:
                raise EOFError
            data += part
        return data


def _end(process: subprocess.Popen[bytes]) -> int | None:
    """Kill a process; its exit code when it had died on its own."""
    code = None
    # A crash closes the pipe a moment before the process can be waited for.
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(timeout=0.05)
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    return code
