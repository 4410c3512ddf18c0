"""An exported conversation holds what was said, heard, thought and called, and nothing that could run."""

import io
import json
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
import soundfile

from model.assistant import Assistant, ConversationState, TurnOptions
from model.audio import Waveform
from model.backends.scripted import ScriptedBackend
from model.conversation_file import FORMAT, export_conversation
from model.events import AudioCodesDelta, AudioDelta, TextDelta, ThoughtDelta, TurnDone, collect
from model.messages import Audio
from model.tools.base import ToolContext
from model.tools.clock import Clock
from model.tools.toolbox import Toolbox

CALL = "<tool_call>function\nget_date_time\n{}</tool_call>"


def script(conversation, options):
    """Think, call the clock, and answer in sound."""
    if options.think:
        return [ThoughtDelta("Hm.", (4, 5), 0.1), TurnDone("stop", (4, 5), 9, 2, 0.2)]
    if conversation[-2].role != "input":
        return [TextDelta(CALL, (6,), 0.1), TurnDone("stop", (6, 2), 9, 2, 0.2)]
    sound = AudioDelta(Waveform(np.full(2400, 0.25, np.float32), 24_000), 0.1)
    words = TextDelta("<b>Noon.</b>", (7,), 0.1, spoken=True)
    return [words, AudioCodesDelta((1, 2), (8, 9), 0.1), sound, TurnDone("stop", (7, 8, 9, 2), 9, 4, 0.2)]


@pytest.fixture(scope="module")
def archive():
    context = ToolContext(now=lambda: datetime(2026, 11, 3, 12, tzinfo=UTC))
    options = TurnOptions(think="free", speak=True, tools=Toolbox([Clock()]), context=context)
    assistant = Assistant(ScriptedBackend(script, capabilities=("audio_out",)), options=options)
    talk = ConversationState("Be brief.")
    clip = Waveform((0.5 * np.sin(np.arange(8000) / 9)).astype(np.float32), 16_000)
    collect(assistant.say(talk, Audio(clip, "../../a.wav"), "What time is it?"))
    buffer = io.BytesIO()
    export_conversation(talk, buffer, about={"model": "script"})
    return zipfile.ZipFile(buffer)


def test_it_says_what_happened(archive):
    record = json.loads(archive.read("conversation.json"))
    assert record["format"] == FORMAT and record["system"] == "Be brief." and record["about"] == {"model": "script"}
    (exchange,) = record["exchanges"]
    assert exchange["said"][0]["name"] == "../../a.wav" and exchange["said"][1]["text"] == "What time is it?"
    assert exchange["thought"]["text"] == "Hm." and exchange["thought"]["tokens"] == 2
    (tool,) = exchange["tools"]
    assert tool["name"] == "get_date_time" and "12:00" in tool["result"] and tool["data"]["date"] == "2026-11-03"
    assert exchange["answer"]["text"] == "<b>Noon.</b>" and exchange["answer"]["reason"] == "stop"
    roles = [message["role"] for message in exchange["read_later"]]
    assert roles == ["assistant", "input", "assistant"]
    assert exchange["read_later"][-1]["parts"][-1] == {"type": "ids", "ids": [7, 8, 9]}


def test_every_sound_is_there_under_a_name_of_ours(archive):
    record = json.loads(archive.read("conversation.json"))
    (exchange,) = record["exchanges"]
    files = [exchange["said"][0]["file"], exchange["answer"]["sound"]["file"]]
    assert sorted(archive.namelist()) == sorted(["conversation.json", *files])
    heard, rate = soundfile.read(io.BytesIO(archive.read(files[0])), dtype="float32")
    assert rate == 16_000 and np.abs(heard - 0.5 * np.sin(np.arange(8000) / 9)).max() < 1e-4
    answer, rate = soundfile.read(io.BytesIO(archive.read(files[1])), dtype="float32")
    assert rate == 24_000 and np.allclose(answer, 0.25, atol=1e-4)


def test_a_conversation_without_a_word_is_a_file_too(tmp_path):
    export_conversation(ConversationState(), tmp_path / "empty.zip")
    record = json.loads(zipfile.ZipFile(tmp_path / "empty.zip").read("conversation.json"))
    assert record["exchanges"] == [] and record["unanswered"] is None
