"""What a person gets to see and hear of a reply while it is written, and what is left of it when it is over."""

from collections.abc import Iterator
from dataclasses import replace

from model.call_filter import CallFilter
from model.events import AudioCodesDelta, AudioDelta, Event, TextDelta, TurnDone
from model.reply_history import Written
from model.tools.toolbox import Toolbox


class ReplyReader:
    """Reads the events of one reply.

    Args:
        speaks: Whether the reply was opened with `<tts_start>`; if not, speech in it is skipped.
        gap: Put before its first words, to keep them apart from those of the reply before.
    """

    def __init__(self, *, speaks: bool, gap: str = "") -> None:
        self._speaks, self._gap = speaks, gap
        self._calls = CallFilter()
        self._last_id: int | None = None
        self._text = self._spoken_text = ""
        self._codes: list[int] = []

    def read(self, event: Event) -> Iterator[Event]:
        """Take one event of the reply, and yield what there is to see and hear."""
        self._last_id = (getattr(event, "ids", ()) or (self._last_id,))[-1]
        if isinstance(event, AudioCodesDelta | AudioDelta):
            if self._speaks:
                self._codes += getattr(event, "codes", ())
                yield event
        elif not isinstance(event, TextDelta):
            yield event
        elif self._speaks and event.spoken:
            # Words beside speech are never a call: a call follows when the speech is over.
            self._spoken_text += event.text
            yield self._apart(event)
        else:
            for shown in self._calls.add(event):
                self._text += shown.text
                yield self._apart(shown)

    def end(self, t_s: float) -> Iterator[Event]:
        """Yield the words that waited for more."""
        for shown in self._calls.end(t_s):
            self._text += shown.text
            yield self._apart(shown)

    def written(self, done: TurnDone, tools: Toolbox) -> tuple[Written, list[str]]:
        """Return the reply, calls included, and the calls that could not be read."""
        found = tools.parse(self._calls.calls)
        unread = [*found.malformed, *([self._calls.unfinished] if self._calls.is_open else [])]
        written = Written(
            reason=done.reason,
            ids=done.ids,
            last_shown_id=self._last_id,
            speaks=self._speaks,
            spoken_text=self._spoken_text,
            text=self._text,
            codes=tuple(self._codes),
            calls=found.calls,
            tried_to_call=bool(found.calls or unread),
        )
        return written, unread

    def _apart(self, event: TextDelta) -> TextDelta:
        gap, self._gap = self._gap, ""
        return replace(event, text=gap + event.text) if gap else event
