"""One turn of the speech chat, from what the page sends to what it shows; knows no gradio.

Wish(text, files, settings) ──parts──> Assistant.say | edit ──events──> Bubbles ... ──over──> Talk.pictures
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from demo.audio_turn import run_title, turn_frames, wait
from demo.bubbles import Bubbles, advance, messages
from demo.errors import Problem
from demo.model_thread import TICK_S, Job, Tick, aside
from demo.runs import Run
from demo.session import Turn
from demo.speech import Speech
from demo.talks import Talk
from demo.texts import Texts
from demo.workbench import Workbench
from model.assistant import Assistant, TurnOptions
from model.audio import INPUT_SAMPLE_RATE_HZ, load_waveform
from model.conversation_file import export_conversation
from model.conversation_state import Exchange
from model.events import AudioDelta, Event
from model.messages import Audio, Message, Part, Text
from model.options import GenerationOptions
from model.tools.base import ToolContext
from model.tools.standard import AUDIO, STANDARD_NAMES, standard_toolbox
from model.voice_search import library_of

SHORTEST_S = 0.1
MOST_FILES = 8
KEPT_PHASES = ("thinking", "tool", "writing", "speaking")
"""Phases that last until something else happens."""
LAST_WORDS_S = 1.5
"""How long a stopped turn may take to put down its last step."""
MAX_TOKENS = 1024


@dataclass(frozen=True)
class Settings:
    """How the answers are to be, as the page gives it."""

    system: str = ""
    speak: bool = False
    voice: str = ""
    """Name of a voice; empty for the model's first one."""
    think: str = "none"
    """"none", "free", or a number of tokens in digits."""
    tools: tuple[str, ...] = ()
    temperature: float = 0.4
    seed: int | None = None

    def options(self, language: str, speech: Speech | None = None) -> TurnOptions:
        """Return the options of a turn.

        Args:
            language: Of the page.
            speech: What the model speaks with; its voices can be searched.

        Raises:
            OptionsError: If a value is out of range.
        """
        libraries = [library_of(speech.cards)] if speech and AUDIO in self.tools else []
        drawn = {"temperature": self.temperature, "top_p": 0.9} if self.temperature > 0 else {}
        written = GenerationOptions(max_new_tokens=MAX_TOKENS, repetition_penalty=1.05, seed=self.seed, **drawn)
        return TurnOptions(
            think=int(self.think) if self.think.isdigit() else self.think,
            speak=self.speak,
            tools=standard_toolbox(libraries, use=[name for name in self.tools if name in STANDARD_NAMES]),
            generation=written,
            context=ToolContext(language=language),
        )


@dataclass(frozen=True)
class Wish:
    """What somebody wants of the conversation."""

    kind: Literal["say", "edit"] = "say"
    text: str = ""
    files: tuple[str, ...] = ()
    """Recordings, in the order in which they are to be heard, before the text."""
    index: int = -1
    """Which message is edited."""
    said: tuple[Part, ...] | None = None
    """What to say where it is known already, instead of text and files."""
    settings: Settings = field(default_factory=Settings)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said."""
        return not (self.text.strip() or self.files or self.said)


# --- a turn ---------------------------------------------------------------------------------------


def converse(workbench: Workbench, session: str, talk: Talk, wish: Wish, texts: Texts) -> Iterator[Bubbles]:
    """Take a turn, yielding whatever there is to show; Stop, errors and a page that was left are seen to."""
    return turn_frames(workbench, session, lambda turn: _steps(workbench, talk, wish, turn, texts), texts, Bubbles)


def _steps(workbench: Workbench, talk: Talk, wish: Wish, turn: Turn, texts: Texts) -> Iterator[Bubbles]:
    said = wish.said
    if wish.is_empty:
        yield Bubbles.at("starting").failed(Problem(texts("chat_nothing_title"), texts("chat_nothing")))
        return
    if said is None:
        seconds = workbench.settings.max_audio_s
        said = yield from wait(aside(lambda: hear(wish, seconds), turn.cancel), Bubbles.at("listening"))
    if said is None:
        return
    state, index = talk.state, len(talk.state.exchanges) if wish.kind == "say" else wish.index
    state.system = wish.settings.system
    if wish.settings.voice != talk.voice_setting:  # else a voice that a search found would be lost
        talk.voice_setting = wish.settings.voice
        state.use_voice(wish.settings.voice)

    def begin(assistant: Assistant) -> Iterator[Event]:
        speech = workbench.engine.speech
        how = {"options": wish.settings.options(texts.language, speech), "cancel": turn.cancel}
        return assistant.say(state, *said, **how) if wish.kind == "say" else assistant.edit(state, index, *said, **how)

    talk.live_index = index
    first = Bubbles(asked=Message("human", said))
    for seen in _watch(workbench, workbench.converse(begin, turn.cancel), first):
        if seen.is_under_way:
            yield seen
    yield _settled(talk, index, seen.stopped(), turn)


def hear(wish: Wish, max_seconds: float) -> tuple[Part, ...]:
    """Read the recordings of a message.

    Raises:
        AudioError: If one cannot be read, or is too long or too short.
    """
    limits = {"max_seconds": max_seconds, "min_seconds": SHORTEST_S}
    clips = [
        Audio(load_waveform(path, sample_rate_hz=INPUT_SAMPLE_RATE_HZ, **limits), Path(path).name)
        for path in wish.files[:MOST_FILES]
    ]
    return (*clips, *([Text(wish.text.strip())] if wish.text.strip() else []))


def _watch(workbench: Workbench, job: "Job[Event]", seen: Bubbles) -> Iterator[Bubbles]:
    """Yield a picture for every event and every tick."""
    yield seen
    for item in job:
        if not isinstance(item, Tick):
            seen = replace(advance(seen, item), waited_s=0.0)
        elif seen.phase in KEPT_PHASES:
            seen = replace(seen, waited_s=seen.waited_s + TICK_S)
        else:
            waits_for = "model" if workbench.loading.phase == "loading" else "queued"
            seen = replace(seen, phase="listening" if job.started else waits_for, waited_s=seen.waited_s + TICK_S)
        yield seen


def _settled(talk: Talk, index: int, seen: Bubbles, turn: Turn) -> Bubbles:
    """Return the last picture of a turn, and keep it with the exchange that came of it, if one did."""
    end_s = time.monotonic() + LAST_WORDS_S
    while talk.state.is_busy and time.monotonic() < end_s:
        time.sleep(0.02)  # a turn that was stopped is putting down its last step
    exchanges = talk.state.exchanges
    exchange = exchanges[index] if len(exchanges) == index + 1 else None
    if exchange is None or exchange in talk.pictures:
        return seen
    final = of_exchange(exchange, seen)
    talk.pictures[exchange], talk.live = final, None
    talk.tidy()
    return final


def of_exchange(exchange: Exchange, seen: Bubbles | None = None) -> Bubbles:
    """Return how an exchange looks once it is over.

    Args:
        exchange: What was said and answered.
        seen: How it looked while it happened; without it, tools come before words.
    """
    turn = exchange.turn
    if seen is None:
        seen = Bubbles()
        for event in (*turn.tool_calls, *turn.tool_results):
            seen = advance(seen, event)
        seen = replace(seen, thought=turn.thought, phase="stopped", steps=(*seen.steps, turn.text), note=turn.message)
    elif turn.reason == "cancelled" and not turn.tool_calls:
        # The page stops listening at once; the last words came after that.
        seen = replace(seen, steps=(turn.text,) if turn.text.strip() else ())
    return replace(seen, asked=exchange.asked, sound=turn.waveform)


# --- the conversation as a whole -------------------------------------------------------------------


def chat_messages(talk: Talk, texts: Texts) -> tuple[list[dict[str, Any]], list[int]]:
    """Return what the chatbot shows, and for each of its messages which message of the person it belongs to."""
    live, exchanges = talk.live, talk.state.exchanges
    pictures = [(i, talk.pictures.get(e) or of_exchange(e)) for i, e in enumerate(exchanges)]
    if live is not None and live.is_under_way:
        pictures = pictures[: talk.live_index]
    if live is not None and live.asked is not None and len(pictures) == talk.live_index:
        pictures.append((talk.live_index, live))
    shown, origin = [], []
    for index, picture in pictures:
        rows = messages(picture, index, talk.file_of, texts)
        shown += rows
        origin += [index] * len(rows)
    return shown, origin


def edited(talk: Talk, index: int, text: str) -> tuple[Part, ...]:
    """Return an earlier message with other words; its recordings stay."""
    clips = tuple(part for part in talk.state.asked(index).parts if isinstance(part, Audio))
    return (*clips, *([Text(text)] if text.strip() else []))


def export(talk: Talk, folder: Path, about: dict[str, Any]) -> Path:
    """Write the conversation as a zip and return its path."""
    path = folder / f"conversation-{time.strftime('%Y%m%d-%H%M%S')}.zip"
    export_conversation(talk.state, path, about=about)
    return path


def look_inside(
    workbench: Workbench, session: str, talk: Talk, index: int, found: list[str], turn: Turn
) -> Iterator[Bubbles]:
    """Look into the thought and the answer of one exchange; the ids of the runs go to `found`, the answer's last."""
    exchange = talk.state.exchanges[index]
    looking = replace(talk.pictures.get(exchange) or of_exchange(exchange), phase="looking")
    replies = [each for each in exchange.rounds if each.kind == "reply" and each.ids]
    for each in [r for r in exchange.rounds if r.kind == "thought" and r.ids] + replies[-1:]:
        is_answer = each.kind == "reply"
        sound = (
            [AudioDelta(exchange.turn.waveform, each.events[-1].t_s)] if is_answer and exchange.turn.waveform else []
        )
        events = (*each.events[:-1], *sound, each.events[-1])
        trace = yield from wait(workbench.look_inside(each.prompt, each.ids, events, turn.cancel), looking)
        if trace is None:
            return
        words = exchange.turn.text if is_answer else exchange.turn.thought
        found.append(workbench.runs.put(Run(session, run_title(words), trace)).id)
