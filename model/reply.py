"""Generated ids -> events: whole characters, thoughts and speech codes told apart, and why a reply is over.

    id ──kind──> TEXT       waits until its character (and a possible `</think>`) is whole ──> TextDelta, ThoughtDelta
                 AUDIO_OUT  gathered in groups of four ──> AudioCodesDelta
                 SPECIAL    switches between spoken and plain text, or ends the reply

One `Reply` reads one row of ids; where they come from (a network here, a server elsewhere) it does not know.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from model.chat import CODES_PER_TEXT, THINK_END, THINK_START, Conversation, RawIds, with_reply
from model.clock import Clock
from model.errors import ConversationError
from model.events import AudioCodesDelta, Event, Reason, StageTiming, TextDelta, ThoughtDelta, TurnDone
from model.options import GenerationOptions
from model.processing_step_audio_2 import EncodedPrompt, StepAudio2Processor, as_conversation
from model.repetition import is_looping
from model.tokens import Kind

_BROKEN = "\ufffd"
"""What decoding gives for a character whose bytes are not all there yet."""


class Choice(NamedTuple):
    """The id that was taken."""

    id: int
    logprob: float
    """Under the model itself: temperature 1, nothing penalised or cut off."""


@dataclass
class _Pending:
    """Text ids that are not shown yet, because a character or a tag is unfinished."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Detokenizer:
    """Spells ids as they come, in whole characters: bytes of an unfinished character wait for the rest.

    Joined, the texts equal the text of all ids at once, except that a character still unfinished at the very end is
    left out instead of being shown broken.
    """

    def __init__(self, processor: StepAudio2Processor) -> None:
        self._processor = processor
        self._waiting: list[int] = []

    def add(self, token_id: int) -> str | None:
        """The text that `token_id` completes, or None while a character is unfinished."""
        self._waiting.append(token_id)
        text = self._processor.decode(self._waiting)
        if not text or text.endswith(_BROKEN):
            return None
        self._waiting = []
        return text

    def flush(self) -> str:
        """The whole characters among what still waits."""
        text, self._waiting = self._processor.decode(self._waiting), []
        return text.rstrip(_BROKEN)


class Reply:
    """Reads the ids of one reply: emits deltas, and knows when and why the reply is over."""

    def __init__(self, processor: StepAudio2Processor, options: GenerationOptions) -> None:
        self.processor, self.options = processor, options
        self.reason: Reason | None = None
        self.ids: list[int] = []
        self._n_prompt = 0
        self._limit = options.max_new_tokens
        self._spoken = self._thinking = False
        self._detokenizer = Detokenizer(processor)
        self._pending = _Pending()
        self._code_ids: list[int] = []
        self._text_ids: list[int] = []
        self._tail = ""

    def prepare(self, conversation: Any, model: Any) -> EncodedPrompt:
        """Encode the prompt, and note how its last turn begins and how much room it leaves."""
        options = self.options
        messages = with_reply(as_conversation(conversation), speak=options.speak, think=options.think)
        prompt = self.processor.encode(messages)
        self._n_prompt = len(prompt.ids)
        self._limit = min(options.max_new_tokens, _room(model, prompt))
        self._spoken = prompt.ids[-1:] == [self.processor.ids.tts_start]
        self._thinking = _ends_inside_thought(messages, self.processor)
        return prompt

    def add(self, choice: Choice, clock: Clock) -> Iterator[Event]:
        """Take the next id; sets `reason` when it is the last."""
        token_id, t_s = choice.id, clock()
        self.ids.append(token_id)
        kind = self.processor.ids.kind(token_id)
        if kind is Kind.AUDIO_OUT:
            self._code_ids.append(token_id)
        if kind is not Kind.AUDIO_OUT or len(self._code_ids) == CODES_PER_TEXT:
            yield from self._flush_codes(t_s)
        if kind is Kind.TEXT:
            self._text_ids.append(token_id)
            yield from self._add_text(choice, t_s)
        elif token_id in (self.processor.ids.tts_start, self.processor.ids.tts_end):
            yield from self._flush_text(t_s)
            self._spoken = token_id == self.processor.ids.tts_start
        self.reason = self._why_ended(token_id)

    def end(self, clock: Clock, reason: Reason | None = None) -> Iterator[Event]:
        """What is still held back, the decode timing and `TurnDone`."""
        self.reason = self.reason or reason
        yield from self._flush_codes(clock())
        yield from self._flush_text(clock())
        now = clock()
        yield StageTiming("decode", min(clock.stage_start_s, now), now, now)
        yield self.done(clock)

    def done(self, clock: Clock, reason: Reason | None = None, message: str = "") -> TurnDone:
        """The last event."""
        reason = reason or self.reason
        assert reason is not None, "a reply that is over has a reason"
        return TurnDone(reason, tuple(self.ids), self._n_prompt, len(self.ids), clock(), message)

    def _why_ended(self, token_id: int) -> Reason | None:
        if token_id in self.processor.ids.eos or any(text in self._tail for text in self.options.stop):
            return "stop"
        if is_looping(self._text_ids, self.options.repetition_guard):
            return "repetition"
        return "length" if len(self.ids) >= self._limit else None

    def _add_text(self, choice: Choice, t_s: float) -> Iterator[Event]:
        held = self._pending
        held.ids.append(choice.id)
        held.logprobs.append(choice.logprob)
        text = self._detokenizer.add(choice.id)
        if text is None:
            return
        held.text += text
        longest = max(map(len, self.options.stop), default=0)
        self._tail = (self._tail + text)[-(longest + len(text)) :]
        if not (self._thinking and _may_become_tag(held.text)):
            yield from self._emit(t_s)

    def _emit(self, t_s: float) -> Iterator[Event]:
        """Show what is pending, as thought up to the closing tag and as answer after it."""
        held, self._pending = self._pending, _Pending()
        if not held.ids and not held.text:
            return
        ids, logprobs = tuple(held.ids), tuple(held.logprobs)
        if not self._thinking:
            yield TextDelta(held.text, ids, t_s, logprobs, self._spoken)
            return
        thought, tag, answer = held.text.partition(THINK_END)
        yield ThoughtDelta(thought, ids, t_s, logprobs)
        if tag:
            self._thinking = False
        if answer:
            yield TextDelta(answer, (), t_s, (), self._spoken)

    def _flush_text(self, t_s: float) -> Iterator[Event]:
        self._pending.text += self._detokenizer.flush()
        yield from self._emit(t_s)

    def _flush_codes(self, t_s: float) -> Iterator[Event]:
        code_ids, self._code_ids = tuple(self._code_ids), []
        token_ids = self.processor.ids
        if code_ids:
            codes = tuple(token_ids.code_of(i) for i in code_ids if token_ids.is_code(i))
            yield AudioCodesDelta(codes, code_ids, t_s)


def _may_become_tag(text: str) -> bool:
    """Whether `text` ends in the first characters of the tag that closes a thought."""
    return any(text.endswith(THINK_END[:n]) for n in range(1, len(THINK_END)))


def _ends_inside_thought(conversation: Conversation, processor: StepAudio2Processor) -> bool:
    """Whether the open turn has opened a thought and not closed it."""
    last = conversation[-1]
    written = (
        processor.decode(part.ids) if isinstance(part, RawIds) else getattr(part, "text", "") for part in last.parts
    )
    text = "".join(written)
    return not last.closed and text.rfind(THINK_START) > text.rfind(THINK_END)


def _room(model: Any, prompt: EncodedPrompt) -> int:
    """How many ids fit behind the prompt.

    Raises:
        ConversationError: If there is no room for a single one.
    """
    limit = model.config.text_config.max_position_embeddings
    if len(prompt.ids) < limit:
        return limit - len(prompt.ids)
    n_sound = sum(span.end - span.start for span in prompt.spans if span.kind == "audio")
    raise ConversationError(
        "read the conversation",
        found=f"{len(prompt.ids)} positions, {n_sound} of them sound",
        expected=f"fewer than {limit}, the longest prompt of this model",
        todo="Use a shorter recording (12.5 positions a second), or forget early turns",
    )
