"""A small server that answers as told, and a door that takes it for a public host."""

import contextlib
import socket
import threading
from datetime import UTC, datetime

import pytest

from model.tools.base import ToolContext
from model.tools.net import Door

PUBLIC = "93.184.215.14"
NOW = datetime(2026, 11, 4, 11, 30, tzinfo=UTC)
"""A Wednesday."""


def http(body: bytes | str = b"{}", *, status: str = "200 OK", kind: str = "application/json", **headers: str) -> bytes:
    """Write an answer; header names take `_` for `-`, and None leaves out the length."""
    body = body.encode() if isinstance(body, str) else body
    lines = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class Server:
    """Answers each request with what `answers` has for its path, bytes or a function that is given the socket."""

    def __init__(self):
        self.answers, self.requests, self.connected = {}, [], []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def door(self, **options) -> Door:
        """Return a door behind which every public address is this server."""
        return Door(**{"resolve": lambda host, port: [PUBLIC], "connect": self.connect, "timeout_s": 3.0, **options})

    def connect(self, host, address, port, timeout_s):
        self.connected.append((host, address, port))
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def close(self):
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection, contextlib.suppress(OSError):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(65536) or b"\r\n\r\n"
            text = request.decode("latin-1")
            self.requests.append(text)
            path = (text.split(" ") + ["", ""])[1].partition("?")[0]
            answer = self.answers.get(path, http(status="404 Not Found"))
            if callable(answer):
                answer(connection)
            else:
                connection.sendall(answer)


@pytest.fixture
def server():
    """Return a server that runs for one test."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def context():
    """Return a context whose clock stands still on Wednesday, 4 November 2026, 11:30 UTC."""
    return ToolContext(now=lambda: NOW)
