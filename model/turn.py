"""One turn while it runs: think, reply, call tools, reply again, and speak all along.

    prompt ──think──> thought ──reply──> words, codes ──calls?──> results ──reply──> ... ──> TurnDone
                                            └──CodeSpeaker──> sound

`TurnRun` holds what one turn knows; the conversation hears of it only when it is over (`ConversationState.keep`).
Whoever stops listening stops the turn: what is under way then ends within a step, and what was said stays.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from model.backends.base import AUDIO_OUT, Backend, Measuring
from model.chat import THINK_END, THINK_PREFIX
from model.conversation_state import ConversationState, Exchange, Round, RoundKind, history
from model.errors import BackendError, StepAudioError
from model.events import (
    AudioCodesDelta,
    AudioDelta,
    Event,
    Reason,
    StageTiming,
    TextDelta,
    ThoughtDelta,
    ToolCallEvent,
    TurnDone,
    collect,
    shifted,
)
from model.messages import Control, Conversation, Message, Part, Text, ToolCall, ToolResult
from model.options import GenerationOptions
from model.repetition import is_looping
from model.reply_history import Written, replied, so_far
from model.reply_reader import ReplyReader
from model.speaking import CodeSpeaker
from model.system_prompt import default_system, system_message
from model.tasks import prompts
from model.thought_budget import Budget, FinishedThought, check_budget, finish_thought, most_tokens
from model.tokens import TTS_START
from model.tools.audio_search import AudioSearch, recording_of
from model.tools.base import ToolContext, guard
from model.tools.places import find_zone
from model.tools.toolbox import Outcome, Toolbox
from model.voice_search import is_own

if TYPE_CHECKING:
    from model.token2wav.token2wav import Token2Wav
    from model.token2wav.voice import Voice

logger = logging.getLogger(__name__)

CALLS_PER_REPLY = 4
LEAST_ANSWER = 64
"""Tokens that a thought leaves for the answer."""
KEPT_FREE = 512
"""Tokens that early exchanges make room for."""
CHARACTERS_PER_ID = 4
"""For finding cycles where no ids are told."""
SPOKEN = GenerationOptions(max_new_tokens=2048, temperature=0.7, top_p=0.9, repetition_penalty=1.05)
"""How the official demo writes."""


@dataclass(frozen=True)
class TurnOptions:
    """How a turn goes."""

    think: Budget = "none"
    """Tokens for a thought before the answer: "none", a number, or "free"."""
    speak: bool = False
    """Whether the answer is spoken; where the model has no voice it is written, and the turn says so."""
    tools: Toolbox = field(default_factory=Toolbox)
    """Tools that the model may call; none by default."""
    max_tool_rounds: int = 4
    """How often a turn may call tools and go on."""
    generation: GenerationOptions = SPOKEN
    """How each reply is written; its seed is that of the sound, too."""
    context: ToolContext = field(default_factory=ToolContext)
    """Language, place and clock of the person."""

    def __post_init__(self) -> None:
        """Refuse a budget that is none."""
        check_budget(self.think)


class TurnRun:
    """Runs one turn.

    Args:
        backend: Writes.
        voice_source: Returns what speaks, or None if the model has no voice; called when a turn may need it.
        state: The conversation.
        before: The exchanges that come before this one.
        asked: What the person says.
        options: How the turn goes.
        cancel: Ends it when set.
    """

    def __init__(
        self,
        backend: Backend,
        voice_source: "Callable[[], Token2Wav | None]",
        state: ConversationState,
        before: tuple[Exchange, ...],
        asked: Message,
        options: TurnOptions,
        cancel: threading.Event,
    ) -> None:
        self._backend, self._voice_source, self._state = backend, voice_source, state
        self._before, self._asked, self._options, self._cancel = before, asked, options, cancel
        self._given, self._voice = before, ""
        self._token2wav: Token2Wav | None = None
        self._speaks = False
        self._events: list[Event] = []
        self._rounds: list[Round] = []
        self._written: list[Written] = []
        self._thought: FinishedThought | None = None
        self._notes: list[str] = []
        self._unread: list[str] = []
        self._end: TurnDone | None = None
        self._speaker: CodeSpeaker | None = None
        self._n_calls = 0
        self._prompt_tokens = 0

    def events(self) -> Iterator[Event]:
        """Run the turn; see `Assistant.say`."""
        start_s = time.perf_counter()
        self._clock = lambda: time.perf_counter() - start_s
        steps = self._steps()
        try:
            for event in steps:
                self._take(event)
                yield event
        except GeneratorExit:
            self._end_unheard(steps)
            raise
        except Exception as error:
            self._fail()
            yield self._done("error", str(error))
            raise

    def _end_unheard(self, steps: Iterator[Event]) -> None:
        """Bring the turn to its end though nobody listens any more."""
        self._cancel.set()
        try:
            for event in steps:
                self._take(event)
        except Exception:  # nobody is there to be told
            logger.exception("A turn that was stopped failed.")
            self._fail()

    def _take(self, event: Event) -> None:
        self._events.append(event)
        if isinstance(event, TurnDone):
            self._keep()

    def _steps(self) -> Iterator[Event]:
        """All events of a turn that does not fail."""
        self._open()
        if most_tokens(self._options.think):
            yield from self._think()
        n_rounds = 0
        while not self._cancel.is_set():
            yield from self._reply()
            if self._end.reason != "stop" or not self._written[-1].tried_to_call:
                break
            if n_rounds == self._options.max_tool_rounds:
                self._notes.append(f"Tools were called {n_rounds} times; the next call was not run.")
                break
            yield from self._use_tools()
            n_rounds += 1
        yield self._done("cancelled" if self._cancel.is_set() else self._end.reason)

    # --- before and after -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Note when the turn began, and whether and in which voice it speaks."""
        context = self._options.context
        zone = find_zone(context.time_zone)
        self._moment = context.now().astimezone(zone.info if zone else None)
        may_change = any(isinstance(tool, AudioSearch) for tool in self._options.tools.tools.values())
        try:
            self._token2wav = self._voice_source() if self._options.speak or may_change else None
        except StepAudioError as error:
            self._notes.append(str(error))
        if self._options.speak:
            self._speaks = self._can_speak()

    def _can_speak(self) -> bool:
        """Whether there is a voice; if not, the turn will say why."""
        if AUDIO_OUT in self._backend.info.get("capabilities", ()):
            return True
        if self._token2wav is None or not (self._state.voice or self._token2wav.voices.names):
            self._notes.append(str(no_voice("speak", has_networks=self._token2wav is not None)))
            return False
        self._chosen_voice()  # an unknown name is refused before anything is written
        return True

    def _chosen_voice(self) -> "Voice":
        voice = self._state.voice or self._token2wav.voices.names[0]
        return self._token2wav.voices[voice] if isinstance(voice, str) else voice

    def _done(self, reason: Reason, problem: str = "") -> TurnDone:
        ids = tuple(i for each in self._rounds for i in each.ids)
        forgotten = len(self._before) - len(self._given)
        if forgotten:
            self._notes.append(f"The first {forgotten} messages no longer fit and were left out.")
        t_s = max([self._clock(), *(event.t_s for event in self._events[-1:])])
        message = problem or " ".join(self._notes)
        return TurnDone(reason, ids, self._prompt_tokens, len(ids), t_s, message)

    def _keep(self) -> None:
        """Let the conversation know, if anything was answered."""
        measuring = isinstance(self._backend, Measuring)
        token_ids = self._backend.token_ids if measuring else None
        window = self._options.generation.repetition_guard
        messages = replied(self._written, token_ids, repetition_window=window)
        if not messages:
            self._fail()
            return
        turn = collect(self._events)
        n_forgotten = len(self._before) - len(self._given)
        exchange = Exchange(self._asked, messages, turn, tuple(self._rounds), self._voice, n_forgotten)
        self._state.keep(self._before, exchange)
        self._events = []

    def _fail(self) -> None:
        """Leave the conversation as it is; a message that was to follow it can be tried again."""
        if len(self._before) == len(self._state.exchanges):
            self._state.unanswered = self._asked

    # --- one reply of the model -------------------------------------------------------------------------------------

    def _prompt(self, *opening: Part) -> Conversation:
        """Write the prompt of the next reply; earliest exchanges that leave no room for it are left out."""
        options = self._options
        system = self._state.system or default_system(
            tools=bool(options.tools.tools), think=bool(most_tokens(options.think))
        )
        offered = options.tools.message()
        head = (system_message(system, self._moment), *([offered] if offered else []))
        # The official prefix of a thought is one string with the header.
        joined = True if opening and isinstance(opening[0], Text) else None
        tail = (self._asked, *so_far(self._written), Message("assistant", opening, closed=False, joined=joined))
        wanted = min(options.generation.max_new_tokens, KEPT_FREE)
        while True:
            prompt = (*head, *history(self._given), *tail)
            if not self._given or not isinstance(self._backend, Measuring) or self._backend.room(prompt) >= wanted:
                return prompt
            self._given = self._given[1:]

    def _stream(self, kind: RoundKind, prompt: Conversation, options: GenerationOptions) -> Iterator[Event]:
        """Yield the events of one reply on the clock of the turn; its end goes to `_end`, the round is noted."""
        start_s, events, loop = self._clock(), [], _TextLoop(options.repetition_guard)
        self._end = None
        for event in self._backend.stream(prompt, options, cancel=self._cancel):
            event = shifted(event, start_s)
            if isinstance(event, TurnDone):
                self._end = event  # and on: a reply that failed raises after it
                continue
            if not isinstance(event, AudioDelta):
                events.append(event)
            yield event
            if loop.goes_on(event):
                self._end = TurnDone("repetition", (), 0, 0, event.t_s)
                break
        if self._end is None or self._end.reason == "error":
            raise BackendError(
                "read a reply",
                found=self._end.message if self._end else f"a stream that stopped after {len(events)} events",
                expected="a reply to its end",
                todo="Try again; if it stays so, the server or the script behind it is broken",
            )
        self._rounds.append(Round(kind, prompt, self._end.ids, (*events, self._end)))
        self._prompt_tokens = self._prompt_tokens or self._end.prompt_tokens

    def _think(self) -> Iterator[Event]:
        """Think within the budget."""
        start_s, deltas, after = self._clock(), [], ""
        prompt, generation = self._prompt(Text(THINK_PREFIX)), self._options.generation
        budget = most_tokens(self._options.think)
        if isinstance(self._backend, Measuring):
            budget = min(budget, max(1, self._backend.room(prompt) - LEAST_ANSWER))
        options = replace(generation, max_new_tokens=budget, think=True, speak=False, stop=(THINK_END,))
        for event in self._stream("thought", prompt, options):
            if isinstance(event, TextDelta):
                after += event.text
            elif not isinstance(event, AudioCodesDelta | AudioDelta):
                deltas += [event] if isinstance(event, ThoughtDelta) else []
                yield event
        self._thought = finish_thought(deltas, after, self._end, repetition_window=generation.repetition_guard)
        now_s = self._clock()
        yield StageTiming("think", start_s, now_s, now_s)

    def _reply(self) -> Iterator[Event]:
        """Write, and speak, one reply."""
        thought = self._thought.parts if self._thought and not self._written else ()
        prompt = self._prompt(*thought, *([Control(TTS_START)] if self._speaks else []))
        options = replace(self._options.generation, think=False, speak=self._speaks, stop=())
        said_before = any((each.text + each.spoken_text).strip() for each in self._written)
        reader = ReplyReader(speaks=self._speaks, gap="\n" if said_before else "")
        self._speaker = self._new_speaker()
        for event in self._stream("reply", prompt, options):
            for shown in reader.read(event):
                yield shown
                if isinstance(shown, AudioCodesDelta):
                    yield from self._sound(shown.codes)
        yield from reader.end(self._clock())
        yield from self._sound(None)
        written, self._unread = reader.written(self._end, self._options.tools)
        self._written.append(written)

    def _new_speaker(self) -> CodeSpeaker | None:
        if not self._speaks or AUDIO_OUT in self._backend.info.get("capabilities", ()):
            return None
        voice = self._chosen_voice()
        self._voice = voice.name
        seed = self._options.generation.seed or 0
        return CodeSpeaker(self._token2wav, voice, seed=seed, clock=self._clock, cancel=self._cancel)

    def _sound(self, codes: Sequence[int] | None) -> Iterator[Event]:
        """Yield the sound of more codes, or, with None, the rest; words go on where speaking fails."""
        if self._speaker is None:
            return
        try:
            yield from self._speaker.finish() if codes is None else self._speaker.add(codes)
        except Exception as error:
            logger.exception("Speaking failed; the answer goes on in writing.")
            known = isinstance(error, StepAudioError)
            self._notes.append(str(error) if known else f"Speaking failed ({type(error).__name__}).")
            self._speaker = None

    # --- tools ------------------------------------------------------------------------------------------------------

    def _use_tools(self) -> Iterator[Event]:
        """Run what the last reply asked for, one call after the other, and note the results for the next reply."""
        written, tools = self._written[-1], self._options.tools
        outcomes: list[Outcome] = []
        for call in (*written.calls, *self._unread)[:CALLS_PER_REPLY]:
            start_s = self._clock()
            refused = None if isinstance(call, ToolCall) else tools.refuse(call)
            call = replace(refused.call if refused else call, id=f"call_{self._n_calls}")
            self._n_calls += 1
            yield ToolCallEvent(call.name, call.arguments, call.id, start_s)
            outcome = replace(refused, call=call) if refused else self._run(call)
            outcomes.append(outcome)
            yield outcome.result_event(self._clock())
            now_s = self._clock()
            yield StageTiming("tool", start_s, now_s, now_s)
        self._written[-1] = replace(written, results=_result_messages(outcomes))

    def _run(self, call: ToolCall) -> Outcome:
        tools, context = self._options.tools, self._options.context
        outcome = tools.run(call, replace(context, voice=self._state.voice_id, cancel=self._cancel))
        tool = tools.tools.get(call.name)
        found = outcome.data.get("voice") if isinstance(tool, AudioSearch) else None
        if not found or outcome.failed:
            return outcome
        try:
            self._change_voice(found, tool)
        except StepAudioError as error:
            # The result says that the answer will be in this voice, so it must not stand.
            return replace(outcome, text=guard(f"{call.name} failed. {error}"), data={}, failed=True)
        return outcome

    def _change_voice(self, found: Mapping[str, Any], tool: AudioSearch) -> None:
        """Speak in the voice that a search found, from the next reply on."""
        if self._token2wav is None:
            raise no_voice("change the voice", has_networks=False)
        if is_own(found["id"]):
            voice = self._token2wav.voices[found["name"]]
        else:
            recording = recording_of(found["id"], tool.libraries)
            voice = self._token2wav.make_voice(recording, name=_voice_name(found))
        self._state.use_voice(voice, found["id"])


class _TextLoop:
    """Finds cycles in the text of backends that tell no ids; the others look for them themselves."""

    def __init__(self, n_ids: int) -> None:
        self._window, self._text = CHARACTERS_PER_ID * n_ids, ""

    def goes_on(self, event: Event) -> bool:
        """Take an event; whether the text has been one cycle for long."""
        if not isinstance(event, TextDelta | ThoughtDelta) or event.ids or not self._window:
            return False
        self._text = (self._text + event.text)[-self._window :]
        return is_looping(self._text, self._window)


def _result_messages(outcomes: Sequence[Outcome]) -> tuple[Message, ...]:
    """Write results as the model was trained to read them: a turn each, the last one with the request to sum up."""
    ends = [""] * (len(outcomes) - 1) + [prompts.TOOL_RESULT]
    return tuple(
        Message("input", (ToolResult(outcome.text + end, outcome.call.name, outcome.call.id),))
        for outcome, end in zip(outcomes, ends, strict=True)
    )


def _voice_name(found: Mapping[str, Any]) -> str:
    """Name a voice of a library as voices may be named: letters, digits and a few marks."""
    name = " ".join(re.sub(r"[^\w .()-]", " ", str(found.get("name", ""))).split())[:80].strip()
    return name if re.match(r"[^\W_]", name) else str(found["id"]).lstrip("-_")


def no_voice(tried: str, *, has_networks: bool) -> BackendError:
    """Say that a model cannot speak, and why."""
    return BackendError(
        tried,
        found="a model without a single voice" if has_networks else "a model that writes but has no voice",
        expected="one voice at least" if has_networks else "a checkpoint with token2wav/",
        todo="Read the answer; or add a voice" if has_networks else "Read the answer; or load a checkpoint that speaks",
    )
