"""A small local server of chat completions that does as a script says, and notes what it was asked.

A behaviour is a function of the handler and the request's body; `Server(behaviours)` goes through
them call by call and then stays with the last.
"""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def reply(texts, usage=(10, 5), **more):
    choices = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for i, text in enumerate(texts)
    ]
    used = {"prompt_tokens": usage[0], "completion_tokens": usage[1] * len(texts)}
    return {"id": "x", "object": "chat.completion", "choices": choices, "usage": used, **more}


def send(handler, body, status=200, headers=()):
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def answers(handler, asked):
    """As many texts as are wanted, each of its own."""
    texts = [f"text {i} of {asked.get('seed')}" for i in range(asked.get("n", 1))]
    send(handler, json.dumps(reply(texts)).encode())


def says(*texts, **more):
    return lambda handler, asked: send(handler, json.dumps(reply(texts, **more)).encode())


def raw(body):
    return lambda handler, asked: send(handler, body)


def fails(status, *headers, body=b'{"error": {"message": "no", "code": "x"}}'):
    return lambda handler, asked: send(handler, body, status, headers)


def stalls(seconds):
    def behave(handler, asked):
        time.sleep(seconds)
        answers(handler, asked)

    return behave


def slow(seconds):
    """Takes its time, and answers."""
    return stalls(seconds)


def cuts(handler, asked):
    """The connection ends in the middle of the body."""
    body = json.dumps(reply(["a text"])).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(2)


def drips(handler, asked):
    """A byte now and then, so that no read times out."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True


class Server:
    """A context; `url` is where it listens."""

    def __init__(self, *behaviours, port=0):
        self.behaviours, self.asked, self.arrived_s = list(behaviours), [], []
        self.headers, self.in_flight, self.most_in_flight = [], 0, 0
        self.connections = []
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                server.connections.append(self.connection)

            def handle(self):
                with contextlib.suppress(OSError):
                    super().handle()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    number = len(server.asked)
                    server.asked.append(json.loads(body))
                    server.arrived_s.append(time.monotonic())
                    server.headers.append(dict(self.headers))
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                behave = server.behaviours[min(number, len(server.behaviours) - 1)]
                try:
                    behave(self, server.asked[number])
                except OSError:
                    self.close_connection = True
                finally:
                    with lock:
                        server.in_flight -= 1

            def log_message(self, *args):
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
