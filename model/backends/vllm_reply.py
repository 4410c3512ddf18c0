"""What a vLLM server answers: bytes -> JSON -> events of one turn. Pure: nothing is sent or waited for here.

    bytes, cut anywhere ──read_events──> {"choices": [{"delta": ...}]} ──ServerReply──> TextDelta, AudioCodesDelta, ...

    delta.content                plain text; a thought until </think>, if the turn was opened with one
    delta.tts_content.tts_text   words that are spoken               (StepFun, and only after <tts_start>)
    delta.tts_content.tts_audio  "<audio_17><audio_4032>": codes     (StepFun)
    delta.tool_calls             name first, arguments in one piece or several: text again, as the model wrote it
    delta.reasoning_content      a thought, from servers that tell it apart themselves
    modality "audio"             base64 of a 24 kHz WAV piece        (vllm-omni)
    token_ids, logprobs          the ids behind the delta, from servers that tell them
    usage                        in the last event

A server that parses speech leaves padding out, so the ids it tells count only if they are as many as it says it wrote.
Otherwise `TurnDone.ids` stay empty, history keeps words and codes, and who needs ids for measuring makes them again
(`model/backends/recovered_ids.py`).

Source: server-sent events as in the HTML standard; the chat completion protocol of vLLM.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from model.audio import OUTPUT_SAMPLE_RATE_HZ, load_waveform
from model.chat import THINK_END, THINK_START
from model.clock import Clock
from model.errors import AudioError, BackendError
from model.events import (
    AudioCodesDelta,
    AudioDelta,
    Event,
    Reason,
    TextDelta,
    ThoughtDelta,
    TurnDone,
)
from model.options import GenerationOptions
from model.repetition import is_looping
from model.tokens import EOS_NAMES, TOOL_CALL, TOOL_CALL_END, TTS_END, TTS_PAD, TTS_START, Kind, TokenIds

MAX_LINE_BYTES = 2**26
"""A WAV of half an hour fits; a server that never ends its line does not."""
CHARACTERS_PER_ID = 4
"""How the guard against loops, which counts ids elsewhere, counts characters here."""
_DONE = "[DONE]"
_NAMED = "token_id:"
_CODE = re.compile(r"<audio_(\d+)>")
_NO_WORDS = re.compile("|".join(map(re.escape, (*EOS_NAMES, TTS_START, TTS_END, TTS_PAD))))
_REASONS: dict[str, Reason] = {"stop": "stop", "tool_calls": "stop", "length": "length"}


# --- bytes -> JSON ------------------------------------------------------------------------------------------------


def read_events(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Read server-sent events whose data are JSON objects, until `[DONE]`.

    Args:
        pieces: The answer, cut anywhere, also inside a character.

    Raises:
        BackendError: If something is no JSON object, is an error of the server, or the end is missing.
    """
    finished, n_events = False, 0
    for data in _data_lines(pieces):
        if data == _DONE:
            return
        event = _object(data)
        if event.get("error") or event.get("object") == "error":
            raise server_error(f"this error in the middle of its answer: {said_by_server(data)}")
        choices = event.get("choices") or []
        finished = finished or any(isinstance(c, Mapping) and c.get("finish_reason") for c in choices)
        n_events += 1
        yield event
    if not finished:
        raise server_error(f"an answer that broke off after {n_events} events", "Ask again; look into the server's log")


def _data_lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """The data of each event; several data lines of one event are joined, everything else is ignored."""
    data: list[str] = []
    for line in _lines(pieces):
        if not line and data:
            yield "\n".join(data)
            data = []
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif line.startswith("{"):  # an answer that is no stream at all, which some proxies make of an error
            raise server_error(f"no stream of events but {said_by_server(line)}")
    if data:
        yield "\n".join(data)


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines without their ends; the last one may lack it."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        if b"\n" in piece:  # only then, so that a long line is not searched over and over
            *lines, waiting = waiting.split(b"\n")
            yield from map(_line, lines)
        if len(waiting) > MAX_LINE_BYTES:
            raise server_error(f"a line longer than {MAX_LINE_BYTES // 2**20} MiB")
    if waiting:
        yield _line(waiting)


def _line(line: bytes | bytearray) -> str:
    try:
        return line.decode("utf-8-sig").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise server_error(f"bytes that are no UTF-8: {bytes(line[:40])!r}") from error


def _object(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise server_error(f"an event that is no JSON object: {said_by_server(data)}")
    return event


def server_error(found: str, todo: str = "Check that the address is a vLLM server for Step-Audio 2") -> BackendError:
    """Make the error of an answer that cannot be used."""
    return BackendError(
        "read the server's answer", found=found, expected="a stream of chat completion events", todo=todo
    )


def said_by_server(text: str, *, most: int = 300) -> str:
    """What a server says of itself, short and on one line; the message inside, if it is JSON with one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    while isinstance(value, Mapping):
        value = next((value[key] for key in ("error", "message", "detail") if value.get(key)), str(dict(value)))
    words = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return words if len(words) <= most else words[: most - 3] + "..."


# --- JSON -> events -----------------------------------------------------------------------------------------------


class ServerReply:
    """Reads the events of one reply and makes ours of them.

    Args:
        options: What was asked for.
        token_ids: Which kind each told id is.
        clock: Started with the turn.
    """

    def __init__(
        self, options: GenerationOptions, *, token_ids: TokenIds | None = None, clock: Clock | None = None
    ) -> None:
        self.options, self.clock = options, clock or Clock()
        self.reason: Reason | None = None
        self._ids = token_ids or TokenIds.official()
        self._in_speech = self._parsed = self._thinking = self._began = False
        self._held = self._tail = ""
        self._told: list[int] = []
        self._waiting: list[tuple[int, float | None]] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._usage: Mapping[str, Any] = {}

    def open(self, opening: str) -> None:
        """Note how the reply begins: what the prompt's open turn says, as the server was told."""
        self._in_speech = opening.endswith(TTS_START)
        self._thinking = opening.rfind(THINK_START) > opening.rfind(THINK_END)

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """Take one event of the server.

        Raises:
            BackendError: If it is not of the known form.
        """
        try:
            made = list(self._read(chunk))
        except (TypeError, AttributeError, KeyError, ValueError, AudioError) as error:
            raise server_error(f"an event of unknown form ({error}): {said_by_server(str(chunk))}") from error
        if made and not self._began:
            self._began = True
            made.insert(0, self.clock.stage("prefill"))
        yield from made

    def end(self, reason: Reason | None = None) -> Iterator[Event]:
        """What is still held back, the tool calls, the decode timing and `TurnDone`."""
        self.reason = self.reason or reason or "stop"
        held, self._held = self._held, ""
        yield from self._shown(held)
        yield from self._tool_calls()
        yield self.clock.stage("decode")
        yield self.done()

    def done(self, reason: Reason | None = None, message: str = "") -> TurnDone:
        """The last event."""
        ids, reason = self._final_ids(), reason or self.reason or "stop"
        prompt_tokens = self._usage.get("prompt_tokens")
        n_prompt = prompt_tokens if isinstance(prompt_tokens, int) else 0
        return TurnDone(reason, ids, n_prompt, len(ids), self.clock(), message)

    # -- one event -------------------------------------------------------------------------------

    def _read(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or choice.get("message") or {}
            if chunk.get("modality") == "audio":
                yield from self._sound(delta.get("content") or (delta.get("audio") or {}).get("data"))
                continue
            self._note_ids(choice)
            yield from self._words(delta)
            yield from self._sound((delta.get("audio") or {}).get("data"))
            self._note_calls(delta.get("tool_calls") or [])
            self._note_finish(choice)

    def _words(self, delta: Mapping[str, Any]) -> Iterator[Event]:
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        if thought:
            yield self._thought_delta(_text(thought))
        spoken = delta.get("tts_content") or {}
        self._parsed = self._parsed or bool(spoken)
        said = _NO_WORDS.sub("", _text(spoken.get("tts_text")))
        if said:
            yield self._text_delta(said, spoken=True)
        yield from self._codes(_text(spoken.get("tts_audio")))
        yield from self._content(_text(delta.get("content")))

    def _content(self, content: str) -> Iterator[Event]:
        """Text of a server that parses speech is plain; from others it is the speech itself, with its codes or not."""
        if self._in_speech and not self._parsed:
            said, end, content = content.partition(TTS_END)
            words = _NO_WORDS.sub("", _CODE.sub("", said))
            if words:
                yield self._text_delta(words, spoken=True)
            yield from self._codes(said)
            self._in_speech = not end
        yield from self._split(_NO_WORDS.sub("", content))

    def _split(self, content: str) -> Iterator[Event]:
        """Thought up to its closing tag, answer after it; what may become the tag waits."""
        if not self._thinking:
            yield from self._shown(content)
            return
        thought, tag, answer = (self._held + content).partition(THINK_END)
        keep = 0 if tag else max(n for n in range(len(THINK_END)) if thought.endswith(THINK_END[:n]))
        self._held = thought[len(thought) - keep :]
        yield from self._shown(thought[: len(thought) - keep])
        if tag:
            if self._waiting:  # the tag's ids belong to the thought, its characters to nobody
                yield self._thought_delta("")
            self._thinking = False
            yield from self._shown(answer)

    def _shown(self, text: str) -> Iterator[Event]:
        if text and self._thinking:
            yield self._thought_delta(text)
        elif text:
            yield self._text_delta(text, spoken=False)

    def _text_delta(self, text: str, *, spoken: bool) -> TextDelta:
        return TextDelta(text, *self._taken(text, self.clock()), spoken)

    def _thought_delta(self, text: str) -> ThoughtDelta:
        return ThoughtDelta(text, *self._taken(text, self.clock()))

    def _taken(self, text: str, t_s: float) -> tuple[tuple[int, ...], float, tuple[float, ...]]:
        """Ids that wait for this text, the time, and their log-probabilities where all are known; looks for loops."""
        window = CHARACTERS_PER_ID * self.options.repetition_guard
        self._tail = (self._tail + text)[-max(1, window) :]
        if is_looping(self._tail, window):
            self.reason = "repetition"
        waiting, self._waiting = self._waiting, []
        logprobs = tuple(value for _, value in waiting if value is not None)
        return tuple(i for i, _ in waiting), t_s, logprobs if len(logprobs) == len(waiting) else ()

    def _codes(self, names: str) -> Iterator[Event]:
        """Speech codes; padding is none, and what is beyond the codebook would break the vocoder."""
        found = [int(number) for number in _CODE.findall(names)]
        wrong = [code for code in found if code > self._ids.n_codes]
        if wrong:
            raise ValueError(f"speech code {wrong[0]}, the last one is {self._ids.n_codes - 1}")
        if found:
            codes = tuple(code for code in found if code < self._ids.n_codes)
            yield AudioCodesDelta(codes, tuple(self._ids.first_code + code for code in found), self.clock())

    def _sound(self, data: str | None) -> Iterator[Event]:
        if data:
            wav = base64.b64decode(_text(data).rpartition(",")[2], validate=True)
            yield AudioDelta(load_waveform(wav, sample_rate_hz=OUTPUT_SAMPLE_RATE_HZ), self.clock())

    def _note_ids(self, choice: Mapping[str, Any]) -> None:
        """Remember which ids the server says are behind this delta, codes and control tokens apart from text."""
        told = [(int(i), None) for i in choice.get("token_ids") or []]
        entries = [(e.get("token", ""), e.get("logprob")) for e in (choice.get("logprobs") or {}).get("content") or []]
        named = [
            (int(name.removeprefix("token_id:")), value) for name, value in entries if name.startswith("token_id:")
        ]
        if told and len(told) == len(entries):
            told = [(i, value) for (i, _), (_, value) in zip(told, entries, strict=True)]
        told = told or named
        self._told += [i for i, _ in told]
        self._waiting += [(i, value) for i, value in told if self._ids.kind(i) is Kind.TEXT]

    def _note_calls(self, calls: Iterable[Mapping[str, Any]]) -> None:
        for place, call in enumerate(calls):
            known = self._calls.setdefault(
                call.get("index", place), {"id": "", "name": "", "arguments": "", "last": ""}
            )
            function = call.get("function") or {}
            piece = _text(function.get("arguments"))
            known["name"] = known["name"] or _text(function.get("name"))
            known["arguments"] += piece
            known["last"] = piece or known["last"]

    def _note_finish(self, choice: Mapping[str, Any]) -> None:
        finish = choice.get("finish_reason")
        if finish and finish not in _REASONS:
            raise ValueError(f"an end for the reason {finish!r}")
        if finish and self.reason is None:
            self.reason = _REASONS[finish]

    # -- the end ---------------------------------------------------------------------------------

    def _tool_calls(self) -> Iterator[Event]:
        """The calls as the model wrote them, so that whoever reads replies reads calls in one way.

        Arguments come in pieces, or whole again (StepFun's own client takes the last piece).
        """
        for _, call in sorted(self._calls.items()):
            arguments = call["last"] if _is_json(call["last"]) else call["arguments"]
            yield self._text_delta(
                f"{TOOL_CALL}function\n{call['name']}\n{arguments or '{}'}{TOOL_CALL_END}", spoken=False
            )

    def _final_ids(self) -> tuple[int, ...]:
        counted = self._usage.get("completion_tokens")
        return tuple(self._told) if counted in (None, len(self._told)) else ()


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value or ""


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
