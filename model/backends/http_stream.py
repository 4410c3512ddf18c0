"""One HTTP exchange that can be broken off at any moment: a request goes out, the answer comes in as it is written.

    consumer ── cancel set? ── waits 50 ms at a time ── queue of a few pieces <── thread: connect, send, read
        '── leaves, for whatever reason ──> the socket is shut down, which wakes the thread and tells the server

A plain blocking read cannot be cancelled, and a server that thinks for a minute before its first byte is just the case
where somebody presses Stop; hence the thread. The socket is ours, so leaving early closes the connection and lets the
server stop its work. Proxies from the environment are not used, redirects are not followed.
"""

import contextlib
import http.client
import queue
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from model.errors import BackendError

PIECE_BYTES = 65_536
MAX_REFUSAL_BYTES = 20_000
"""What is read of an answer that is no success."""
_WAITING_PIECES = 32
_LOOK_S = 0.05
"""How often a wait looks whether it was cancelled."""


class Cancelled(Exception):
    """Whoever waited for the answer does not want it any more."""


class Refused(Exception):
    """The server answered with another status than 200."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP status {status}")
        self.status, self.body = status, body


@dataclass(frozen=True)
class Server:
    """Where a server is, and how patient we are with it."""

    url: str
    """Its root, with or without a path: `http://localhost:8000`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with every request; kept out of messages, since a key may be among them."""
    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 120.0
    """Longest silence between two pieces of an answer, the first one included."""

    def __post_init__(self) -> None:
        """Refuse addresses that are none."""
        parts = urllib.parse.urlsplit(self.url)
        try:
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.query or parts.fragment or parts.username or parts.password:
            raise BackendError(
                "use the address of a server",
                found=repr(self.url if "@" not in self.url else "an address with a password"),
                expected="http:// or https://, a host and perhaps a port, such as http://localhost:8000",
                todo="Correct the address; a key has a setting of its own",
            )

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that is not opened yet."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.connect_timeout_s, context=context
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.connect_timeout_s)

    def target(self, path: str) -> str:
        """Return the path to ask for, below the path of the address."""
        return urllib.parse.urlsplit(self.url).path.rstrip("/") + path


def exchange(
    server: Server, path: str, body: bytes | None = None, *, cancel: threading.Event | None = None
) -> Iterator[bytes]:
    """Ask once, and hand on the pieces of the answer as they arrive.

    Args:
        server: Whom to ask.
        path: Such as `/v1/models`.
        body: JSON to post; None gets instead.
        cancel: Ends the exchange within a moment when it is set, whatever the server is doing.

    Yields:
        Pieces of the body of an answer with status 200, never empty.

    Raises:
        Cancelled: When `cancel` is set.
        Refused: If the status is another one.
        OSError, http.client.HTTPException: If the connection fails or breaks; a TimeoutError if it is silent too long.
    """
    call = _Call(server, path, body)
    try:
        yield from call.pieces(cancel or threading.Event())
    finally:
        call.shut()


class _Call:
    """The thread that talks to the server, and the queue between it and us."""

    def __init__(self, server: Server, path: str, body: bytes | None) -> None:
        self._server, self._path, self._body = server, path, body
        self._connection = server.connection()
        self._socket: socket.socket | None = None
        self._queue: queue.Queue[bytes | Exception | None] = queue.Queue(_WAITING_PIECES)
        self._shut = threading.Event()
        threading.Thread(target=self._run, name="server reply", daemon=True).start()

    def pieces(self, cancel: threading.Event) -> Iterator[bytes]:
        while True:
            if cancel.is_set():
                raise Cancelled
            try:
                piece = self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def shut(self) -> None:
        """Close the connection under the thread, which then ends by itself."""
        self._shut.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._talk()
            self._put(None)
        except Exception as error:  # whatever it is, it belongs to the one who waits
            self._put(error)
        finally:
            self._connection.close()

    def _talk(self) -> None:
        connection = self._connection
        connection.connect()
        self._socket = connection.sock  # the connection forgets it when the server wants to close after the answer
        if self._shut.is_set():
            return
        self._socket.settimeout(self._server.idle_timeout_s)
        headers = {"Accept": "text/event-stream, application/json", **self._server.headers}
        if self._body is not None:
            headers["Content-Type"] = "application/json"
        method = "GET" if self._body is None else "POST"
        connection.request(method, self._server.target(self._path), self._body, headers)
        with connection.getresponse() as response:
            if response.status != http.client.OK:
                raise Refused(response.status, response.read(MAX_REFUSAL_BYTES))
            while piece := response.read1(PIECE_BYTES):
                self._put(piece)
            if response.length:  # fewer bytes than the server had announced
                raise http.client.IncompleteRead(b"", response.length)

    def _put(self, piece: bytes | Exception | None) -> None:
        """Hand on a piece, unless nobody waits for it any more."""
        while not self._shut.is_set():
            try:
                self._queue.put(piece, timeout=_LOOK_S)
                return
            except queue.Full:
                continue
