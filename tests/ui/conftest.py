"""A served app and a page in Chromium; every test fails on a console error or a request to elsewhere."""

import shutil
import socket

import pytest

from demo.settings import prepare_environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]


@pytest.fixture(scope="session")
def speech(tmp_path_factory):
    """A fine recording, 48 kHz so that the fake microphone can play it too."""
    from model.audio import save_waveform
    from tests.demo.fakes import tone

    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    save_waveform(path, tone(2.4, rate=48_000))
    return path


@pytest.fixture(scope="session")
def browser(speech):
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={speech}"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serve():
    """Return a function that serves a workbench and returns the address."""
    prepare_environment()
    from demo.ui import QUEUE_LENGTH, build, launch_arguments

    served = []

    def start(workbench):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        demo = build(workbench).queue(max_size=QUEUE_LENGTH)
        arguments = launch_arguments(workbench.settings) | {"server_port": port, "quiet": True}
        _, url, _ = demo.launch(**arguments, prevent_thread_lock=True)
        served.append(demo)
        return url

    yield start
    for demo in served:
        demo.close()


class Watch:
    """What went wrong on a page."""

    def __init__(self, page, url):
        self.problems = []
        self._home = (url, "data:", "blob:")
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("request", self._request)

    def _console(self, message):
        # A page that closes breaks off its event stream; nothing is wrong with that.
        if message.type == "error" and "ERR_ABORTED" not in message.text:
            self.problems.append(f"console: {message.text[:300]}")

    def _request(self, request):
        if not request.url.startswith(self._home):
            self.problems.append(f"request to {request.url}")


@pytest.fixture
def visit(browser):
    """Return a function that opens a page; what went wrong on it fails the test at its end."""
    contexts, watches = [], []

    def open_page(url, *, width=1280, height=900, dark=False, locale="en-US", clean=True):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale=locale,
            accept_downloads=True,
        )
        contexts.append(context)
        page = context.new_page()
        if clean:
            watches.append(Watch(page, url))
        page.goto(url)
        page.wait_for_selector("#transcribe:enabled")
        page.wait_for_selector(".strip[data-phase]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [problem for watch in watches for problem in watch.problems] == []
