"""Every refusal of this project, as one small tree whose members all speak in four parts.

    StepAudioError
    ├── AudioError          (also ValueError)   a sound cannot be read or used
    ├── CheckpointError                         a model folder cannot be loaded
    │   └── MemoryShortage                      ... because it does not fit
    ├── ConversationError   (also ValueError)   messages make no valid conversation
    ├── OptionsError        (also ValueError)   options contradict each other
    ├── TraceError          (also ValueError)   a saved trace cannot be read or used
    ├── BackendError                            the thing that produces turns failed
    └── ToolError                               a tool of the assistant cannot do what was asked
        └── NetworkDown                         ... because nothing out there can be reached

A message says what was tried, what was found, what was expected and what to do:

    >>> raise AudioError("read 'a.wav'", found="an empty file", expected="a recording", todo="Record it again.")
    Traceback (most recent call last):
    model.errors.AudioError: Could not read 'a.wav': found an empty file, expected a recording. Record it again.

How an error looks on screen is not decided here but in `demo/errors.py`.
"""

from __future__ import annotations


class StepAudioError(Exception):
    """Root of all refusals; the four parts stay readable as attributes."""

    tried: str
    """What was tried, as a verb phrase that follows "Could not": `read 'a.wav'`."""
    found: str
    """What was found instead, as a noun phrase: `an empty file`."""
    expected: str
    """What would have been fine, as a noun phrase: `a recording`."""
    todo: str
    """What the reader can do now, as a sentence: `Record it again.`"""

    def __init__(self, tried: str, *, found: str, expected: str, todo: str) -> None:
        self.tried, self.found, self.expected, self.todo = tried, found, expected, todo
        super().__init__(f"Could not {tried}: found {found}, expected {expected}. {_sentence(todo)}")

    def __reduce__(self) -> tuple:
        """Pickle by the four parts, so that errors cross process borders (data loaders, Ray)."""
        return _rebuild, (type(self), self.tried, self.found, self.expected, self.todo)


class AudioError(StepAudioError, ValueError):
    """A sound cannot be read, decoded or used."""


class CheckpointError(StepAudioError):
    """A model folder is incomplete, damaged or not one of ours."""


class MemoryShortage(CheckpointError):
    """A model or a cache does not fit into the memory or the disk that is there."""


class ConversationError(StepAudioError, ValueError):
    """Messages do not make a valid conversation."""


class OptionsError(StepAudioError, ValueError):
    """Options are out of range or contradict each other."""


class TraceError(StepAudioError, ValueError):
    """A trace on disk or in memory is damaged, too large or of an unknown version."""


class BackendError(StepAudioError):
    """The thing that produces turns failed or cannot do what was asked."""


class ToolError(StepAudioError):
    """A tool of the assistant was called wrongly, or cannot give a result."""


class NetworkDown(ToolError):
    """A tool needs the network, and no way out was found."""


def _sentence(text: str) -> str:
    """Start with a capital, end with a full stop."""
    text = text.strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def _rebuild(kind: type[StepAudioError], tried: str, found: str, expected: str, todo: str) -> StepAudioError:
    return kind(tried, found=found, expected=expected, todo=todo)
