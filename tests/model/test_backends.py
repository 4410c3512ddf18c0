"""One protocol, two backends: a loaded model, and a script that says it is one."""

import threading
import time
from types import SimpleNamespace

from model.backends.base import Backend
from model.backends.local import LocalBackend
from model.backends.scripted import ScriptedBackend
from model.chat import Message, Text
from model.events import TextDelta, TurnDone, collect
from model.options import GenerationOptions
from model.processing_step_audio_2 import StepAudio2Processor
from model.tokens import TokenIds

ASKED = (Message("human", (Text("Hi"),)),)
OPTIONS = GenerationOptions(max_new_tokens=3)
SCRIPT = [TextDelta("a", (1,), 0.1), TextDelta("b", (2,), 0.2), TurnDone("stop", (1, 2), 5, 2, 0.3)]


def test_a_script_is_replayed_and_says_so():
    backend = ScriptedBackend(SCRIPT)
    assert isinstance(backend, Backend) and backend.info["scripted"] is True
    assert list(backend.stream(ASKED, OPTIONS)) == SCRIPT
    assert backend.calls == [(ASKED, OPTIONS)]


def test_a_script_can_depend_on_the_question():
    backend = ScriptedBackend(lambda conversation, options: SCRIPT[-1:] if options.speak else SCRIPT)
    assert collect(backend.stream(ASKED, OPTIONS)).text == "ab"


def test_a_cancelled_script_keeps_what_was_said():
    cancel, backend = threading.Event(), ScriptedBackend(SCRIPT)
    events = []
    for event in backend.stream(ASKED, OPTIONS, cancel=cancel):
        events.append(event)
        cancel.set()
    assert events == [SCRIPT[0], TurnDone("cancelled", (1,), 0, 1, 0.1)]


def test_a_pause_does_not_outlast_a_cancel():
    cancel = threading.Event()
    threading.Timer(0.05, cancel.set).start()
    start = time.monotonic()
    turn = collect(ScriptedBackend(SCRIPT, pause_s=30).stream(ASKED, OPTIONS, cancel=cancel))
    assert turn.reason == "cancelled" and time.monotonic() - start < 5


def test_a_local_model_answers(tiny_model, tokenizer):
    processor = StepAudio2Processor(tokenizer, ids=TokenIds.official())
    info = SimpleNamespace(name="tiny", revision="r", device="cpu", dtype="float32")
    backend = LocalBackend(SimpleNamespace(model=tiny_model, processor=processor, info=info))
    assert isinstance(backend, Backend)
    assert (
        backend.info["name"] == "tiny" and not backend.info["scripted"] and "logprobs" in backend.info["capabilities"]
    )
    turn = collect(backend.stream(ASKED, OPTIONS))
    assert turn.new_tokens == 3 and turn.reason == "length"
    cancel = threading.Event()
    cancel.set()
    assert collect(backend.stream(ASKED, OPTIONS, cancel=cancel)).reason == "cancelled"
