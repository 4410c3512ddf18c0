"""What an error looks like to the person at the screen: the only home of those words.

An expected refusal (`StepAudioError`) already says what was found and what to do; here it gets
a heading and is laid out. Anything unexpected goes to the log under a reference, and the page
shows the reference, never the raw text: it may hold paths or secrets.
"""

import errno
import html
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from demo.texts import Texts
from model.errors import AudioError, BackendError, CheckpointError, MemoryShortage, StepAudioError, TraceError

logger = logging.getLogger(__name__)

TITLES: tuple[tuple[type[Exception], str], ...] = (
    (AudioError, "audio_title"),
    (MemoryShortage, "memory_title"),
    (CheckpointError, "checkpoint_title"),
    (TraceError, "trace_title"),
    (BackendError, "backend_title"),
    (StepAudioError, "other_title"),
)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Problem:
    """An error in plain words; nothing in it is HTML."""

    title: str
    """What happened, a few words."""
    detail: str
    """What was found, or why."""
    advice: str = ""
    """What to do now."""

    def __str__(self) -> str:
        """Return all of it as one paragraph."""
        return " ".join(part for part in (self.title + ".", self.detail, self.advice) if part)


def explain(error: BaseException, texts: Texts) -> Problem:
    """Put an error into words for the screen; never raises, and logs what nobody expected."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return Problem(texts("disk_title"), texts("disk"))
    for cause in _chain(error):
        if _is_memory_shortage(cause):
            return Problem(texts("memory_title"), texts("memory"))
        if isinstance(cause, StepAudioError):
            return _refusal(cause, texts)
        if isinstance(cause, FileNotFoundError):
            name = str(cause.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
            return Problem(texts("missing_title"), texts("missing", name=name))
    return Problem(texts("unexpected_title"), texts("unexpected", reference=_reference(error)))


def _reference(error: BaseException) -> str:
    """Log an error once, and return the reference under which it stands in the log."""
    known = getattr(error, "_shown_as", None)
    if known is None:
        known = error._shown_as = secrets.token_hex(3)
        logger.error("Unexpected problem, reference %s", known, exc_info=error)
    return known


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what caused it, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_memory_shortage(error: BaseException) -> bool:
    # torch is not imported here: its out-of-memory errors are known by their name.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _refusal(error: StepAudioError, texts: Texts) -> Problem:
    title = next(texts(key) for kind, key in TITLES if isinstance(error, kind))
    parts = [str(getattr(error, name, "")).strip() for name in ("found", "expected", "todo")]
    if not all(parts):
        return Problem(title, str(error))
    found, expected, todo = parts
    gap = "；" if texts.language == "zh" else "; "
    detail = f"{texts('found')}: {found}{gap}{texts('expected').lower()}: {expected}."
    return Problem(title, f"{_capital(error.tried)}. {detail}", todo)


def _capital(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]


def problem_html(problem: Problem) -> str:
    """Lay a problem out for the page; everything in it is escaped."""
    advice = f'<p class="problem-advice">{html.escape(problem.advice)}</p>' if problem.advice else ""
    return (
        f'<div class="problem" role="alert"><p class="problem-title">{html.escape(problem.title)}</p>'
        f"<p>{html.escape(problem.detail)}</p>{advice}</div>"
    )
