"""The one door to the network: https to public addresses, within a time and a size.

    url ──> https? no name and password? known host? ──> resolve ──> every address public? ──> connect to that address
     ^                                                                                             │
     └────────────── a redirect starts again from the left, at most three times <──────────────────┤
                                                                            headers and body <─────┘ within the limits

The address that was judged is the address that is connected to, so a name server that changes its mind in between
gains nothing. Proxies from the environment are not used: behind one, nobody here could judge the address.

Source: the special-purpose address registries of IANA, as `ipaddress` has them; RFC 6052 (addresses behind NAT64).
"""

import http.client
import io
import ipaddress
import json
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.errors import NetworkDown, ToolError
from model.tools.waiting import Late, within

USER_AGENT = "step-audio-2-workbench"
JSON_TYPES = ("application/json", "text/json")
_HEADER_ROOM_BYTES = 64_000
"""What headers and the framing of chunks may take on top of the body."""
_REDIRECTS = (301, 302, 303, 307, 308)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|[0-9a-f:.]+")
_SAFE_IN_TARGET = "/%:@!$&'()*+,;=?~-._"


@dataclass(frozen=True)
class Page:
    """What a server answered."""

    url: str
    """Where it came from in the end, after redirects."""
    content_type: str
    """Without parameters, in small letters: `application/json`."""
    body: bytes


def public_address(address: str) -> bool:
    """Whether an address belongs to the public internet, so that asking it tells nothing about this network.

    Private, loopback, link-local, shared, documentation, multicast and reserved ones do not, whether written directly
    or inside an IPv6 address that leads to them.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or (ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF) if parsed in _NAT64 else None)
        if inner is not None:
            return public_address(str(inner))
        if parsed.sixtofour or parsed.teredo or parsed.is_site_local or parsed.scope_id:
            return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved)


def system_addresses(host: str, port: int) -> list[str]:
    """Ask the system for the addresses of a host, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def tls_connect(
    host: str, address: str, port: int, timeout_s: float, context: ssl.SSLContext | None = None
) -> socket.socket:
    """Connect to an address and make sure that the host is who answers there."""
    end = time.monotonic() + timeout_s
    plain = socket.create_connection((address, port), timeout=timeout_s)
    try:
        plain.settimeout(max(0.001, end - time.monotonic()))
        return (context or ssl.create_default_context()).wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


@dataclass(frozen=True)
class Door:
    """Fetches pages; immutable, so one serves everybody."""

    timeout_s: float = 8.0
    """For all of it: names, redirects, headers and body."""
    max_bytes: int = 1_000_000
    max_redirects: int = 3
    resolve: Callable[[str, int], Sequence[str]] = system_addresses
    """(host, port) -> addresses; tests put their own."""
    connect: Callable[[str, str, int, float], Any] = tls_connect
    """(host, address, port, seconds) -> socket; tests put their own."""

    def get_json(
        self, url: str, parameters: Mapping[str, object] | None = None, *, hosts: Collection[str] | None = None
    ) -> Any:
        """Fetch and read JSON; arguments and refusals as for `get`."""
        page = self.get(url, parameters, hosts=hosts, accept=JSON_TYPES)
        try:
            return json.loads(page.body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _refusal(page.url, "an answer that is no JSON", "JSON", "Try again later") from error

    def get(
        self,
        url: str,
        parameters: Mapping[str, object] | None = None,
        *,
        hosts: Collection[str] | None = None,
        accept: Sequence[str] = ("text/html", "text/plain"),
    ) -> Page:
        """Fetch a page.

        Args:
            url: An https address; redirects from it are followed under the same conditions.
            parameters: What to put behind its `?`.
            hosts: Hosts it may talk to; None allows all public ones.
            accept: Content types that are wanted; others are refused before they are read.

        Raises:
            NetworkDown: If no name server or no host can be reached.
            ToolError: If the address is not allowed, or the answer is late, large, broken, or an error.
        """
        end = time.monotonic() + self.timeout_s
        if parameters:
            url = f"{url}?{urllib.parse.urlencode(parameters)}"
        for _ in range(self.max_redirects + 1):
            try:
                found = self._ask(_Target.of(url, hosts), accept, end)
            except TimeoutError as error:
                found_text = f"no complete answer within {self.timeout_s:g} s"
                raise _refusal(url, found_text, "one by then", "Try again later") from error
            except (http.client.HTTPException, OSError, ValueError) as error:
                raise _refusal(url, f"a broken answer ({type(error).__name__})", "a web server", "Try later") from error
            if isinstance(found, Page):
                return found
            url = urllib.parse.urljoin(url, found)
        raise _refusal(url, f"more than {self.max_redirects} redirects", "a page", "Use its final address")

    def _ask(self, target: "_Target", accept: Sequence[str], end: float) -> Page | str:
        """Ask one host; a page, or where it sends us."""
        sock = self._open(target, end)
        try:
            sock.settimeout(_left(end))
            sock.sendall(target.request(accept))
            response = http.client.HTTPResponse(_Bounded(sock, end, self.max_bytes + _HEADER_ROOM_BYTES), method="GET")
            response.begin()
            location = response.getheader("Location")
            if response.status in _REDIRECTS and location:
                return location
            return self._read(response, target.url, accept)
        finally:
            sock.close()

    def _open(self, target: "_Target", end: float) -> Any:
        addresses = _resolve(self.resolve, target, end)
        if not addresses or not all(map(public_address, addresses)):
            # Which address it is stays untold: names of this network are nobody's business.
            found = "an address that is not on the public internet" if addresses else "no address"
            raise _refusal(target.url, found, "a public host", "Use another address")
        for index, address in enumerate(addresses):
            try:
                share_s = _left(end) / (len(addresses) - index)  # one that never answers must not use up the time
                return self.connect(target.host, address, target.port, share_s)
            except ssl.SSLError as error:
                found = f"no proof of who answers ({getattr(error, 'verify_message', None) or error.reason})"
                raise _refusal(target.url, found, "a valid certificate", "Use another address") from error
            except OSError as error:
                last = error
        raise NetworkDown(
            f"reach {target.host}",
            found=f"no connection ({last.strerror or type(last).__name__})",
            expected="a way to the internet",
            todo="Check the network, or answer without it",
        ) from last

    def _read(self, response: http.client.HTTPResponse, url: str, accept: Sequence[str]) -> Page:
        """Read the body of an answer that is what was asked for."""
        if response.status != 200:
            found = "that it is asked too often (429)" if response.status == 429 else f"the status {response.status}"
            raise _refusal(url, found, "200", "Try again later")
        kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        if kind not in accept:
            raise _refusal(url, f"content of type {kind or 'unknown'!r:.60}", " or ".join(accept), "Use another one")
        if (response.getheader("Content-Encoding") or "identity").lower() != "identity":
            raise _refusal(url, "a packed answer", "a plain one, as was asked for", "Use another one")
        announced = response.length
        if announced is not None and announced > self.max_bytes:
            raise self._too_large(url)
        body = response.read(self.max_bytes + 1)
        if len(body) > self.max_bytes:
            raise self._too_large(url)
        if announced is not None and len(body) < announced:
            raise _refusal(url, f"{len(body):,} of {announced:,} bytes", "all of them", "Try again later")
        return Page(url, kind, body)

    def _too_large(self, url: str) -> ToolError:
        limit = f"at most {self.max_bytes:,}"
        return _refusal(url, f"more than {self.max_bytes:,} bytes", limit, "Ask for less, or use another one")


@dataclass(frozen=True)
class _Target:
    """An address that may be asked."""

    url: str
    host: str
    """In its ASCII form, without brackets and final dot."""
    port: int
    path: str
    """Path and query, percent-encoded."""

    @classmethod
    def of(cls, url: str, hosts: Collection[str] | None) -> "_Target":
        """Take an address apart and refuse what is not plain https."""
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port or 443
            host = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii")
        except ValueError as error:
            raise _refusal(url, "no valid address", "one such as https://example.org/", "Correct it") from error
        if parts.scheme != "https" or not host:
            raise _refusal(url, f"the scheme {parts.scheme!r:.20}", "https and a host", "Use its https address")
        if parts.username is not None or parts.password is not None:
            raise _refusal(url, "a name or password inside", "an address without", "Leave them out")
        if not _HOST.fullmatch(host):
            raise _refusal(url, f"the host {host!r:.80}", "a host name", "Correct it")
        if port != 443:
            raise _refusal(url, f"port {port}", "the port of https, 443", "Use another address")
        if hosts is not None and host not in hosts:
            raise _refusal(url, f"the host {host!r:.80}", f"one of {', '.join(sorted(hosts))}", "Use another address")
        path = urllib.parse.quote(parts.path or "/", safe=_SAFE_IN_TARGET)
        query = urllib.parse.quote(parts.query, safe=_SAFE_IN_TARGET)
        return cls(url, host, port, path + (f"?{query}" if query else ""))

    def request(self, accept: Sequence[str]) -> bytes:
        """Write the request; everything in it is ASCII without spaces or line ends of its own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = (
            f"GET {self.path} HTTP/1.1",
            f"Host: {host}",
            f"User-Agent: {USER_AGENT}",
            f"Accept: {', '.join(accept)}",
            "Accept-Encoding: identity",
            "Connection: close",
        )
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _resolve(resolve: Callable[[str, int], Sequence[str]], target: _Target, end: float) -> Sequence[str]:
    """Resolve a name; the system's resolver knows no time limit of its own."""
    try:
        return within(_left(end), lambda: list(resolve(target.host, target.port)), name="resolve")
    except (Late, OSError, UnicodeError) as error:
        late = isinstance(error, Late)
        raise NetworkDown(
            f"find {target.host}",
            found="no answer from the name server" if late else "a name that nobody knows here",
            expected="a way to the internet",
            todo="Check the network, or answer without it",
        ) from error


class _Bounded:
    """A socket, as `http.client` wants it, that stops at a time and at a number of bytes."""

    def __init__(self, sock: Any, end: float, max_bytes: int) -> None:
        self._raw = _BoundedReader(sock, end, max_bytes)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the answer as a file."""
        return io.BufferedReader(self._raw)


class _BoundedReader(io.RawIOBase):
    """Bytes of a socket; every read waits only as long as is left, so that a trickle does not go on for ever."""

    def __init__(self, sock: Any, end: float, max_bytes: int) -> None:
        self._sock, self._end, self._left = sock, end, max_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._end))
        count = self._sock.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise http.client.HTTPException("more bytes than are allowed")
        return count


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _refusal(url: str, found: str, expected: str, todo: str) -> ToolError:
    return ToolError(f"open {url!r:.120}", found=found, expected=expected, todo=todo)
