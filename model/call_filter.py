"""Tool calls taken out of a reply while it is being written.

    "Let me check. " "<tool_call>function\\n" "get_date_time\\n{}" "</tool_call>"
     shown at once    held back                                    ──parse──> ToolCall

Whatever may still become a tag waits for the next piece, so no part of a call is ever shown as words.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from model.events import TextDelta
from model.tokens import TOOL_CALL, TOOL_CALL_END


@dataclass
class CallFilter:
    """Splits the text of one reply into words and calls."""

    calls: str = ""
    """Every finished call with its tags, as `Toolbox.parse` reads it."""
    is_open: bool = False
    """Whether a call has begun and not ended."""
    _text: str = ""
    _after_call: bool = False
    _ids: list[int] = field(default_factory=list)
    _logprobs: list[float] = field(default_factory=list)

    @property
    def unfinished(self) -> str:
        """What was written of a call that has not ended; empty when there is none."""
        return self._text if self.is_open else ""

    def add(self, delta: TextDelta) -> Iterator[TextDelta]:
        """Take the next piece and yield the words that are certain to be words."""
        self._text += delta.text
        self._ids += delta.ids
        self._logprobs += delta.logprobs
        yield from self._shown(self._words(), delta)

    def end(self, t_s: float) -> Iterator[TextDelta]:
        """Yield what waited for more; an unfinished call is not among it."""
        if not self.is_open:
            words, self._text = self._without_gap(self._text), ""
            yield from self._shown(words, TextDelta("", (), t_s))

    def _words(self) -> str:
        """Take words and calls off the front of what is there, as far as they are certain."""
        words = ""
        while True:
            head, tag, rest = self._text.partition(TOOL_CALL_END if self.is_open else TOOL_CALL)
            if self.is_open:
                if not tag:
                    return words
                self.calls += TOOL_CALL + head + TOOL_CALL_END
                self._after_call = True
            elif not tag:
                kept = _begun(head, TOOL_CALL)
                self._text = head[len(head) - kept :]
                return words + self._without_gap(head[: len(head) - kept])
            else:
                words += self._without_gap(head)
            self._text, self.is_open = rest, not self.is_open

    def _without_gap(self, words: str) -> str:
        """Drop the space between a call and what follows it."""
        if self._after_call:
            words = words.lstrip()
            self._after_call = not words
        return words

    def _shown(self, words: str, delta: TextDelta) -> Iterator[TextDelta]:
        """Yield words with all ids that led to them; ids inside a call belong to no words."""
        if words:
            yield replace(delta, text=words, ids=tuple(self._ids), logprobs=tuple(self._logprobs))
        elif self._text and not self.is_open:
            return  # the ids wait with the text
        self._ids, self._logprobs = [], []


def _begun(text: str, tag: str) -> int:
    """Count the last characters of a text that are the first ones of a tag."""
    return max((n for n in range(1, min(len(tag), len(text) + 1)) if text.endswith(tag[:n])), default=0)
