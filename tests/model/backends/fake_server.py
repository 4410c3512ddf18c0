"""A server on this machine that answers chat completions as a test tells it to: pieces of bytes, and pauses."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

DONE = b"data: [DONE]\n\n"


def event(**values) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n".encode()


def delta(finish=None, choice=None, **values) -> bytes:
    """One event with one delta."""
    return event(choices=[{"index": 0, "delta": values, "finish_reason": finish, **(choice or {})}])


def usage(prompt, completion) -> bytes:
    """The event that counts ids."""
    return event(choices=[], usage={"prompt_tokens": prompt, "completion_tokens": completion})


class FakeServer:
    """Answers every question with a script.

    A script is a list of bytes, numbers (seconds of silence) and functions of the call (`handler`, `question`,
    `write`); or (status, bytes) for a refusal. Bytes go out as HTTP chunks, as uvicorn sends them, unless `plain`.
    """

    def __init__(self, script=(), *, models=("step-audio-2-mini",), max_model_len=16_384):
        self.script, self.models, self.max_model_len = script, models, max_model_len
        self.questions: list[dict] = []
        self.headers: list[dict] = []
        self.plain = False
        """Answer as HTTP 1.0 does: bytes until the connection ends."""
        self.listing: tuple[int, bytes] | None = None
        self.left = threading.Event()
        """Set when the client went away while it was answered."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.headers.append(dict(self.headers))
                status, body = outer.listing or (200, outer._list())
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                outer.headers.append(dict(self.headers))
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.questions.append(question)
                outer._answer(self, question)

            def log_message(self, *args):
                """Keep the output of the tests clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _list(self):
        data = [{"id": name, "object": "model", "max_model_len": self.max_model_len} for name in self.models]
        return json.dumps({"object": "list", "data": data}).encode()

    def _answer(self, handler, question):
        script = self.script
        if isinstance(script, tuple):
            status, body = script
            handler.send_response(status)
            handler.end_headers()
            handler.wfile.write(body)
            return
        handler.protocol_version = "HTTP/1.0" if self.plain else "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        if not self.plain:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        call = SimpleNamespace(handler=handler, question=question, write=lambda data: self._write(handler, data))
        try:
            for step in script:
                self._do(step, call)
            if not self.plain:
                handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.left.set()

    def _do(self, step, call):
        if isinstance(step, bytes):
            call.write(step)
        elif isinstance(step, Callable):
            step(call)
        else:
            self._wait(step, call.handler)

    def _write(self, handler, data):
        handler.wfile.write(data if self.plain else b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.flush()

    def _wait(self, seconds, handler):
        """Be silent, but notice a client that goes away."""
        handler.connection.settimeout(0.02)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if handler.connection.recv(1) == b"":
                    raise ConnectionError("the client went away")
            except TimeoutError:
                continue
