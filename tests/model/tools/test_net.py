"""The door opens to public https hosts, for a while and for so many bytes."""

import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from model.errors import NetworkDown, ToolError
from model.tools.net import Door, public_address, tls_connect
from tests.model.tools.conftest import PUBLIC, http

URL = "https://example.org/page"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1"),
        *("::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::", "::7f00:1"),
        *("localhost", "", "1.2.3", "2130706433", "127.0.0.1 ", "0x7f000001"),
    ],
)
def test_addresses_of_this_network_are_not_public(address):
    assert not public_address(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", PUBLIC, "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "172.32.0.1"]
)
def test_public_addresses_are(address):
    assert public_address(address)


def test_a_page_comes_back(server):
    server.answers["/page"] = http("hello", kind="text/html; charset=utf-8")
    page = server.door().get(URL)
    assert (page.url, page.content_type, page.body) == (URL, "text/html", b"hello")
    assert server.connected == [("example.org", PUBLIC, 443)]
    head = server.requests[0]
    assert head.startswith("GET /page HTTP/1.1\r\nHost: example.org\r\n") and "Accept-Encoding: identity" in head


def test_parameters_are_encoded(server):
    server.answers["/page"] = http('{"a": [1]}')
    parameters = {"q": "北京 & x=1\r\nHost: evil", "n": 2}
    assert server.door().get_json(URL, parameters) == {"a": [1]}
    line = server.requests[0].split("\r\n")[0]
    assert line == "GET /page?q=%E5%8C%97%E4%BA%AC+%26+x%3D1%0D%0AHost%3A+evil&n=2 HTTP/1.1"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/", "the scheme 'http'"),
        ("file:///etc/passwd", "the scheme 'file'"),
        ("ftp://example.org/", "the scheme 'ftp'"),
        ("https:///nothing", "the scheme 'https'"),
        ("example.org", "the scheme ''"),
        ("https://user:pass@example.org/", "a name or password"),
        ("https://user@example.org/", "a name or password"),
        ("https://example.org:8443/", "port 8443"),
        ("https://example.org:99999/", "no valid address"),
        ("https://[::1/", "no valid address"),
        ("https://exa mple.org/", "the host"),
        ("https://example.org%00.evil.org/", "the host"),
        (f"https://{'a' * 70}.org/", "no valid address"),
    ],
)
def test_other_addresses_are_not_opened(server, url, words):
    with pytest.raises(ToolError, match="Could not open") as caught:
        server.door().get(url)
    assert words in caught.value.found and server.connected == []


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.7", "::1", "169.254.169.254", "::ffff:192.168.0.1"])
def test_names_that_lead_inside_are_not_opened(server, inside):
    for addresses in ([inside], [PUBLIC, inside]):
        with pytest.raises(ToolError, match="not on the public internet") as caught:
            server.door(resolve=lambda host, port, found=addresses: found).get(URL)
        assert inside not in str(caught.value)
    assert server.connected == []


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://localhost/"])
def test_the_systems_resolver_is_judged_too(url):
    with pytest.raises(ToolError):
        Door(timeout_s=3.0, connect=lambda *_: pytest.fail("connected")).get(url)


def test_the_judged_address_is_the_one_connected_to(server):
    asked = iter([[PUBLIC], ["127.0.0.1"]])
    server.answers["/page"] = http("x", kind="text/html")
    server.door(resolve=lambda host, port: next(asked)).get(URL)
    assert server.connected == [("example.org", PUBLIC, 443)]


def test_redirects_are_followed_and_judged(server):
    server.answers["/page"] = http(status="302 Found", Location="/other")
    server.answers["/other"] = http(status="301 Moved", Location="https://b.example.org/end")
    server.answers["/end"] = http("done", kind="text/html")
    page = server.door().get(URL)
    assert page.url == "https://b.example.org/end" and page.body == b"done"
    assert [host for host, *_ in server.connected] == ["example.org", "example.org", "b.example.org"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://example.org/", "the scheme 'http'"),
        ("file:///etc/passwd", "the scheme 'file'"),
        ("https://inside.example.org/", "not on the public internet"),
        ("https://elsewhere.org/", "the host 'elsewhere.org'"),
        ("//elsewhere.org/", "the host 'elsewhere.org'"),
        ("https://example.org:22/", "port 22"),
        ("/page", "more than 3 redirects"),
    ],
)
def test_redirects_to_where_one_may_not_go(server, location, words):
    server.answers["/page"] = http(status="302 Found", Location=location)
    door = server.door(resolve=lambda host, port: ["192.168.1.1" if host.startswith("inside") else PUBLIC])
    hosts = ("example.org", "inside.example.org")
    with pytest.raises(ToolError) as caught:
        door.get(URL, hosts=hosts)
    assert words in caught.value.found
    assert {host for host, *_ in server.connected} == {"example.org"}


def test_only_named_hosts(server):
    with pytest.raises(ToolError, match="one of api.example.org"):
        server.door().get(URL, hosts=("api.example.org",))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("x", kind="image/png"), "content of type 'image/png'"),
        (http("x", kind=None), "content of type 'unknown'"),
        (http("x", kind="text/html", Content_Encoding="gzip"), "a packed answer"),
        (http("x", status="404 Not Found"), "the status 404"),
        (http("x", status="500 Oh"), "the status 500"),
        (http("x", status="429 Too Many"), "asked too often"),
        (http(status="302 Found"), "the status 302"),
        (http("x", kind="text/html", Content_Length="5000"), "1 of 5,000 bytes"),
        (http("x", kind="text/html", Content_Length="5000000"), "more than 10,000 bytes"),
        (http("x" * 20_000, kind="text/html"), "more than 10,000 bytes"),
        (http("x" * 20_000, kind="text/html", Content_Length=None), "more than 10,000 bytes"),
        (b"nonsense\r\n\r\n", "a broken answer"),
        (b"", "a broken answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 70_000 + b"\r\n\r\n", "a broken answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", "a broken answer"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            "a broken answer",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nx\r\n" * 40_000
            + b"0\r\n\r\n",
            "",
        ),
    ],
)
def test_bad_answers_are_refused(server, answer, words):
    server.answers["/page"] = answer
    with pytest.raises(ToolError) as caught:
        server.door(max_bytes=10_000).get(URL)
    assert words in caught.value.found


def test_chunks_are_put_together(server):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answers["/page"] = head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert server.door().get(URL).body == b"abcde"


@pytest.mark.parametrize("body", ["{", "[1, 2", "NaN", '{"a": Infinity}', "[" * 100_000, b"\xff\xfe", ""])
def test_what_is_no_json(server, body):
    server.answers["/page"] = http(body)
    with pytest.raises(ToolError, match="no JSON"):
        server.door().get_json(URL)


def trickle(head):
    """Send an endless answer, a byte at a time."""

    def send(connection):
        connection.sendall(head)
        for _ in range(200):
            connection.sendall(b"a")
            time.sleep(0.05)

    return send


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: time.sleep(3),
        trickle(b"HTTP/1.1 200 OK\r\nX: "),
        trickle(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000\r\n\r\n"),
    ],
    ids=["silence", "slow head", "slow body"],
)
def test_late_answers_are_not_waited_for(server, answer):
    server.answers["/page"] = answer
    started = time.monotonic()
    with pytest.raises(ToolError, match="no complete answer within 0.4 s"):
        server.door(timeout_s=0.4).get(URL)
    assert time.monotonic() - started < 1.5


def test_redirects_share_one_time(server):
    def slowly(connection):
        time.sleep(0.15)
        connection.sendall(http(status="302 Found", Location="/page"))

    server.answers["/page"] = slowly
    with pytest.raises(ToolError, match="no complete answer within 0.4 s"):
        server.door(timeout_s=0.4, max_redirects=50).get(URL)


def test_no_network_is_said_so(server):
    def unknown(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    def unreachable(*_):
        raise OSError(101, "Network is unreachable")

    with pytest.raises(NetworkDown, match="a name that nobody knows here"):
        server.door(resolve=unknown).get(URL)
    with pytest.raises(NetworkDown, match="Network is unreachable"):
        server.door(connect=unreachable).get(URL)
    with pytest.raises(ToolError, match="no address"):
        server.door(resolve=lambda *_: []).get(URL)


def test_a_slow_name_server_is_not_waited_for(server):
    release = threading.Event()
    with pytest.raises(NetworkDown, match="no answer from the name server"):
        server.door(resolve=lambda *_: release.wait(5) and [], timeout_s=0.2).get(URL)
    release.set()


def test_the_next_address_is_tried(server):
    second = "93.184.215.15"

    def connect(host, address, port, timeout_s):
        if address == PUBLIC:
            raise TimeoutError
        return server.connect(host, address, port, timeout_s)

    server.answers["/page"] = http("x", kind="text/html")
    server.door(resolve=lambda *_: [PUBLIC, second], connect=connect).get(URL)
    assert server.connected[0][1] == second


# --- who answers has to prove it ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a file with a key and a self-signed certificate for example.org."""
    if not shutil.which("openssl"):
        pytest.skip("needs the program openssl")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=example.org"
    command += " -addext subjectAltName=DNS:example.org -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=30)
    path = folder / "both.pem"
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return path


@pytest.fixture
def tls_port(certificate):
    """Serve one page over TLS on a local port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(http("secret", kind="text/html"))
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def to_local(tls_port, context=None):
    return lambda host, address, port, timeout_s: tls_connect(host, "127.0.0.1", tls_port, timeout_s, context)


def test_a_certificate_that_nobody_vouches_for_is_refused(server, tls_port):
    with pytest.raises(ToolError, match="no proof of who answers") as caught:
        server.door(connect=to_local(tls_port)).get(URL)
    assert not isinstance(caught.value, NetworkDown)


def test_a_certificate_of_another_host_is_refused(server, tls_port, certificate):
    trusting = ssl.create_default_context(cafile=certificate)
    door = server.door(connect=to_local(tls_port, trusting))
    assert door.get(URL).body == b"secret"
    with pytest.raises(ToolError, match="no proof of who answers"):
        door.get("https://elsewhere.org/")


def test_a_handshake_has_a_time(server):
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, pytest.raises(NetworkDown):
        server.door(connect=to_local(silent.getsockname()[1]), timeout_s=0.3).get(URL)
