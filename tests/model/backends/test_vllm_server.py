"""A server on the loopback answers, refuses, falls silent, dies and talks nonsense; each is an answer or a sentence."""

import json
import socket
import threading
import time

import pytest

from model.backends.base import Backend
from model.backends.vllm_server import VllmBackend
from model.errors import BackendError, ConversationError, OptionsError
from model.events import TextDelta, TurnDone, collect
from model.messages import Message, RawIds, Text
from model.options import GenerationOptions
from tests.model.backends.fake_server import DONE, FakeServer, delta, usage

ASKED = (Message("human", (Text("Hi"),)),)
OPTIONS = GenerationOptions(max_new_tokens=5)
HELLO = [delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), delta(finish="stop"), DONE]
NAME = "step-audio-2-mini"


@pytest.fixture
def server():
    server = FakeServer(HELLO)
    yield server
    server.close()


@pytest.fixture
def backend(server):
    return VllmBackend(server.url, model=NAME, idle_timeout_s=10)


def failed(backend):
    """The events of a turn that fails, checked to end as such turns must, and the error."""
    events = []
    with pytest.raises(BackendError) as caught:
        for event in backend.stream(ASKED, OPTIONS):
            events.append(event)
    assert isinstance(events[-1], TurnDone) and events[-1].reason == "error"
    assert events[-1].message == str(caught.value)
    return events, str(caught.value)


def dead_url():
    """An address on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# --- answers --------------------------------------------------------------------------------------


def test_a_turn(backend, server):
    assert isinstance(backend, Backend)
    turn = collect(backend.stream(ASKED, OPTIONS))
    assert (turn.text, turn.reason, turn.ids) == ("Hello", "stop", ())
    assert [timing.stage for timing in turn.timings] == ["prepare", "prefill", "decode"]
    (question,) = server.questions
    assert question["model"] == NAME and question["max_tokens"] == 5 and question["messages"][0]["content"] == "Hi"


def test_answers_cut_at_every_byte(backend, server):
    whole = b"".join([delta(content="你好🌍"), delta(finish="stop"), DONE])
    server.script = [whole[i : i + 1] for i in range(len(whole))]
    assert collect(backend.stream(ASKED, OPTIONS)).text == "你好🌍"


def test_events_come_while_the_server_still_writes(backend, server):
    gate = threading.Event()
    server.script = [delta(content="first"), lambda _: gate.wait(10), delta(content="second", finish="stop"), DONE]
    stream = backend.stream(ASKED, OPTIONS)
    seen = next(event for event in stream if isinstance(event, TextDelta))
    assert seen.text == "first" and not gate.is_set()
    gate.set()
    assert next(event for event in stream if isinstance(event, TextDelta)).text == "second"


def test_the_key_is_sent_and_never_shown(server):
    backend = VllmBackend(server.url + "/v1/", model=NAME, api_key="s3cret")
    assert collect(backend.stream(ASKED, OPTIONS)).text == "Hello"
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    server.script = (401, b'{"error": "Unauthorized"}')
    _, message = failed(backend)
    assert "Unauthorized" in message and "key" in message
    assert "s3cret" not in message + repr(backend.info) + repr(backend.server)


def test_what_it_can_do_depends_on_the_kind_of_server():
    codes = VllmBackend("http://localhost:1", model="m").info
    assert codes["capabilities"] == ("text", "audio_in", "audio_codes") and codes["scripted"] is False
    sound = VllmBackend("http://localhost:1", dialect="omni", logprobs=True).info
    assert sound["capabilities"] == ("text", "audio_in", "audio_out", "logprobs")
    assert sound["name"] == "http://localhost:1"


def test_two_turns_at_once_do_not_mix(server):
    both = threading.Barrier(2, timeout=10)

    def answer(call):
        both.wait()
        for letter in call.question["messages"][0]["content"]:
            call.write(delta(content=letter))
        call.write(delta(finish="stop") + DONE)

    server.script = [answer]
    backend, texts = VllmBackend(server.url, model=NAME), {}

    def ask(name):
        texts[name] = collect(backend.stream((Message("human", (Text(name),)),), OPTIONS)).text

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("anna", "otto")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert texts == {"anna": "anna", "otto": "otto"}


# --- leaving --------------------------------------------------------------------------------------


def test_a_cancel_closes_the_connection_before_the_first_word(backend, server):
    server.script, cancel = [30.0], threading.Event()
    threading.Timer(0.3, cancel.set).start()
    start = time.monotonic()
    assert collect(backend.stream(ASKED, OPTIONS, cancel=cancel)).reason == "cancelled"
    assert time.monotonic() - start < 10 and server.left.wait(10)


def test_a_cancel_closes_the_connection_after_some_words(backend, server):
    server.script, cancel, events = [delta(content="Hel"), 30.0], threading.Event(), []
    for event in backend.stream(ASKED, OPTIONS, cancel=cancel):
        events.append(event)
        if isinstance(event, TextDelta):
            cancel.set()
    assert (collect(events).reason, collect(events).text) == ("cancelled", "Hel") and server.left.wait(10)


def test_a_cancel_before_the_start_asks_nothing(backend, server):
    cancel = threading.Event()
    cancel.set()
    assert collect(backend.stream(ASKED, OPTIONS, cancel=cancel)).reason == "cancelled"


def test_a_listener_who_goes_away_closes_the_connection(backend, server):
    server.script = [delta(content="Hel"), 30.0]
    stream = backend.stream(ASKED, OPTIONS)
    next(event for event in stream if isinstance(event, TextDelta))
    stream.close()
    assert server.left.wait(10)


def test_a_reply_in_circles_is_broken_off(backend, server):
    server.script = [*[delta(content="嗯嗯嗯嗯")] * 100, 30.0]
    turn = collect(backend.stream(ASKED, GenerationOptions(repetition_guard=12)))
    assert turn.reason == "repetition" and server.left.wait(10)


# --- what goes wrong ------------------------------------------------------------------------------


def test_nobody_there():
    events, message = failed(VllmBackend(dead_url(), model=NAME))
    assert "nobody there" in message and "Start the server" in message


@pytest.mark.parametrize("plain", [False, True])
def test_a_server_that_dies_in_the_middle(backend, server, plain):
    server.plain = plain
    server.script = [delta(content="Hel"), lambda call: call.handler.connection.shutdown(socket.SHUT_RDWR)]
    events, message = failed(backend)
    assert any(isinstance(event, TextDelta) and event.text == "Hel" for event in events)
    assert ("broke off after 1 events" if plain else "a connection that broke") in message


def test_an_answer_until_the_connection_ends(backend, server):
    server.plain = True
    assert collect(backend.stream(ASKED, OPTIONS)).text == "Hello"


def test_a_silent_server(server):
    server.script = [30.0]
    start = time.monotonic()
    _, message = failed(VllmBackend(server.url, model=NAME, idle_timeout_s=0.3))
    assert "silence" in message and time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("refusal", "found"),
    [
        ((404, b'{"object": "error", "message": "The model `x` does not exist."}'), "The model `x` does not exist"),
        ((400, b'{"error": {"message": "maximum context length is 16384"}}'), "Shorten the conversation"),
        ((500, b"Internal Server Error"), "Look into the server's log"),
        ((503, b""), "nothing more"),
        ((307, b""), "status 307"),
    ],
)
def test_refusals(backend, server, refusal, found):
    server.script = refusal
    assert found in failed(backend)[1]


def test_nonsense(backend, server):
    server.script = [b"<html>Router login</html>"]
    assert "broke off" in failed(backend)[1]
    server.script = [delta(content=3)]
    assert "unknown form" in failed(backend)[1]


def test_a_failed_turn_does_not_spoil_the_next(backend, server):
    server.script = (500, b"")
    failed(backend)
    server.script = HELLO
    assert collect(backend.stream(ASKED, OPTIONS)).text == "Hello"


def test_a_conversation_that_cannot_be_sent(backend, server):
    events = []
    with pytest.raises(ConversationError, match="raw ids"):
        for event in backend.stream((*ASKED, Message("assistant", (RawIds((1,)),)), *ASKED), OPTIONS):
            events.append(event)
    assert [event.reason for event in events] == ["error"] and server.questions == []


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://", "http://x:99999", "http://a:b@x", "http://x?y=1"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(BackendError, match="use the address of a server") as caught:
        VllmBackend(url)
    assert "a:b" not in str(caught.value)


def test_an_unknown_dialect():
    with pytest.raises(OptionsError, match="'klingon'"):
        VllmBackend("http://localhost:1", dialect="klingon")


# --- asking what is served ------------------------------------------------------------------------


def test_the_only_model_is_found(server):
    backend = VllmBackend(server.url)
    health = backend.check()
    assert (health.model, health.models, health.max_positions) == (NAME, (NAME,), 16_384)
    assert backend.info["name"] == NAME


def test_a_turn_finds_the_model_by_itself(server):
    assert collect(VllmBackend(server.url).stream(ASKED, OPTIONS)).text == "Hello"
    assert server.questions[0]["model"] == NAME


@pytest.mark.parametrize(
    ("asked", "models", "found"),
    [
        ("other", (NAME,), f"a server of '{NAME}', expected the model 'other'"),
        (None, ("a", "b"), "a server of 'a', 'b', expected exactly one model"),
        (None, (), "a server of no model"),
    ],
)
def test_the_wrong_model(server, asked, models, found):
    server.models = models
    with pytest.raises(BackendError) as caught:
        VllmBackend(server.url, model=asked).check()
    assert found in str(caught.value)


@pytest.mark.parametrize("listing", [b"<html>", b"[]", b'{"data": [{}]}', b"[" * 100_000, b"x" * 2**21])
def test_something_else_at_the_address(server, listing):
    server.listing = (200, listing)
    with pytest.raises(BackendError, match="no list of models"):
        VllmBackend(server.url).check()


def test_checks_that_fail(server):
    server.listing = (403, json.dumps({"error": "key"}).encode())
    with pytest.raises(BackendError, match="status 403"):
        VllmBackend(server.url).check()
    with pytest.raises(BackendError, match="nobody there"):
        VllmBackend(dead_url()).check()


def test_counts_come_from_the_server(backend, server):
    server.script = [delta(content="Hi", choice={"token_ids": [7]}, finish="stop"), usage(12, 1), DONE]
    turn = collect(backend.stream(ASKED, OPTIONS))
    assert (turn.ids, turn.prompt_tokens, turn.new_tokens) == ((7,), 12, 1)
