"""The app's long-lived resources: the model and its thread, the runs, the sessions.

Built once in `app.py` and handed to every tab. The model loads on its own thread while the
page is already usable; a load that fails leaves a sentence and an app that goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from demo.model_thread import Job, ModelThread
from demo.runs import Run, RunStore
from demo.session import Sessions
from demo.settings import Settings
from demo.speech import Recording, Speech, speech_of
from demo.survey import Survey
from demo.talks import Talks
from model.assistant import Assistant
from model.errors import BackendError

if TYPE_CHECKING:
    from analysis.candidate_probabilities import CandidateProbabilities
    from analysis.trace import Trace
    from model.backends.base import Backend
    from model.chat import Conversation
    from model.events import Event
    from model.generation import GenerationOptions

logger = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""Called with a stage ("weights") and the share done, 0..1."""


@dataclass(frozen=True)
class ModelFacts:
    """What the header and the About tab tell about the model."""

    name: str
    revision: str = ""
    device: str = ""
    dtype: str = ""
    n_parameters: int = 0
    memory_bytes: int = 0
    logit_shift: float | None = None
    """Health check: how far the sound moves the next-token logits; None if not checked."""
    card: str = ""
    """The model card, Markdown."""
    is_scripted: bool = False
    """True for the fake that replays a script: the page must say so."""
    capabilities: tuple[str, ...] = ()
    """What the backend can do, in its own words."""
    trained_tasks: tuple[str, ...] | None = None
    """Names of the tasks the weights were trained for (`Task.name`); None: all, or not known."""


@dataclass(frozen=True)
class Engine:
    """What loading gives: something that answers, and something that looks inside."""

    backend: "Backend"
    capture: "Callable[[Conversation, Sequence[int], Sequence[Event]], Trace]"
    """The teacher-forced second pass over a finished turn."""
    facts: ModelFacts
    speech: Speech | None = None
    """What it speaks with; None if it cannot make sound."""
    weigh: "Callable[[Conversation, Sequence[str], threading.Event], CandidateProbabilities | None] | None" = None
    """How likely each of several replies to a prompt is; None where the backend cannot tell."""


Loader = Callable[[Settings, Progress], Engine]

FORGET_EVERY_S = 60.0
SURVEYS_BYTES = 128 << 20
"""Memory that all kept surveys may take together; a minute of sound with its curves has 4 MB."""

STAGES = {"libraries": 0.0, "find": 0.5, "download": 0.52, "check": 0.75, "load": 0.8, "prove": 0.95}
"""Stages of a load, each with the share of the whole at which it begins."""


@dataclass(frozen=True)
class Loading:
    """How far the model is; replaced as a whole, so that any thread may read it."""

    phase: Literal["waiting", "loading", "ready", "failed"] = "waiting"
    stage: str = ""
    """One of `STAGES`."""
    share: float = 0.0
    """Share of the whole load that is done, 0..1."""
    seconds: float = 0.0
    """How long it has taken so far."""
    error: BaseException | None = None
    facts: ModelFacts | None = None


class ModelUnavailable(RuntimeError):
    """The model is not there; `__cause__` says why."""


class Workbench:
    """Model, runs and sessions of this process.

    Args:
        settings: As read at start.
        load: Makes the engine; tests give one that replays a script.
    """

    def __init__(self, settings: Settings, load: Loader | None = None) -> None:
        self.settings = settings
        self.sessions = Sessions()
        self.talks = Talks()
        self.runs: RunStore[Run] = RunStore(max_bytes=settings.run_store_mb << 20, ttl_s=60 * settings.run_minutes)
        self.surveys: RunStore[Survey] = RunStore(max_bytes=SURVEYS_BYTES, ttl_s=60 * settings.run_minutes)
        self._loading = Loading()
        self._load = load or load_engine
        self._engine: Engine | None = None
        self._thread = ModelThread()
        self._began_s = time.monotonic()

    def start(self) -> None:
        """Begin to load the model, and to forget old runs even when nobody visits; return at once."""
        self._began_s = time.monotonic()
        self._loading = Loading("loading", stage="libraries")
        self._thread.submit(self._load_model, threading.Event())
        threading.Thread(target=self._forget, name="forget", daemon=True).start()

    def _forget(self) -> None:
        while True:
            time.sleep(FORGET_EVERY_S)
            self.runs.forget_expired()
            self.surveys.forget_expired()

    def _load_model(self) -> Iterator[None]:
        try:
            self._engine = self._load(self.settings, self._report)
            self._loading = Loading("ready", share=1.0, seconds=self._elapsed_s(), facts=self._engine.facts)
        # Whatever it was, the page shows it and the app goes on.
        except Exception as error:
            logger.warning("Loading %s failed.", self.settings.model, exc_info=True)
            self._loading = Loading("failed", seconds=self._elapsed_s(), error=error)
        yield None

    def _report(self, stage: str, share: float) -> None:
        self._loading = replace(self._loading, stage=stage, share=whole_share(stage, share))

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    @property
    def loading(self) -> Loading:
        """How far the model is at this moment."""
        loading = self._loading
        return replace(loading, seconds=self._elapsed_s()) if loading.phase == "loading" else loading

    @property
    def engine(self) -> Engine:
        """The loaded model.

        Raises:
            ModelUnavailable: If loading failed or has not finished.
        """
        if self._engine is None:
            raise ModelUnavailable("The model is not loaded.") from self._loading.error
        return self._engine

    @property
    def is_busy(self) -> bool:
        """True while the model loads or works for somebody."""
        return self._thread.is_busy

    def answer(
        self, conversation: "Conversation", options: "GenerationOptions", cancel: threading.Event
    ) -> "Job[Event]":
        """Ask for a turn; it waits its turn behind loading and other people's turns."""
        return self._thread.submit(lambda: self.engine.backend.stream(conversation, options, cancel=cancel), cancel)

    def look_inside(
        self,
        conversation: "Conversation",
        reply_ids: "Sequence[int]",
        events: "Sequence[Event]",
        cancel: threading.Event,
    ) -> "Job[Trace]":
        """Ask for the trace of a finished turn (one item)."""

        def capture() -> Iterator["Trace"]:
            yield self.engine.capture(conversation, reply_ids, events)

        return self._thread.submit(capture, cancel)

    def speak(
        self,
        text: str,
        choose: "Callable[[Speech], str | Recording]",
        options: "GenerationOptions",
        cancel: threading.Event,
    ) -> "Job[Event]":
        """Ask for a text to be read aloud.

        Args:
            text: What to read.
            choose: Called once the model is there; returns the name of one of its voices, or a recording.
            options: How to write.
            cancel: Ends the turn.
        """

        def turn() -> "Iterator[Event]":
            speech = self.engine.speech
            if speech is None:
                raise _cannot_speak()
            yield from speech.turn(self.engine.backend, text, choose(speech), options, cancel)

        return self._thread.submit(turn, cancel)

    @property
    def can_say(self) -> bool:
        """Whether answers can be spoken in a voice of the model's own."""
        speech = self._engine.speech if self._engine is not None else None
        return speech is not None and speech.problem is None and bool(speech.cards)

    def say(
        self, conversation: "Conversation", language: str, options: "GenerationOptions", cancel: threading.Event
    ) -> "Job[Event]":
        """Ask for a turn that is spoken, in a voice that suits a language; see `answer`."""

        def turn() -> "Iterator[Event]":
            engine = self.engine
            if engine.speech is None:
                raise _cannot_speak()
            yield from engine.speech.answer(engine.backend, conversation, language, options, cancel)

        return self._thread.submit(turn, cancel)

    @property
    def can_weigh(self) -> bool:
        """Whether the loaded model tells how likely candidate replies are."""
        return self._engine is not None and self._engine.weigh is not None

    def weigh(
        self, conversation: "Conversation", replies: "Sequence[str]", cancel: threading.Event
    ) -> "Job[CandidateProbabilities | None]":
        """Ask how likely each of several replies to a prompt is (one item; None if cancelled)."""

        def score() -> "Iterator[CandidateProbabilities | None]":
            yield self.engine.weigh(conversation, replies, cancel)

        return self._thread.submit(score, cancel)

    def converse(self, begin: "Callable[[Assistant], Iterator[Event]]", cancel: threading.Event) -> "Job[Event]":
        """Ask for a turn of a conversation; `begin` is called with the assistant once the model is there."""

        def turn() -> "Iterator[Event]":
            engine = self.engine
            speech = engine.speech if engine.speech and engine.speech.problem is None else None
            yield from begin(Assistant(engine.backend, token2wav=speech and speech.load))

        return self._thread.submit(turn, cancel)

    def close_connection(self, connection: str | None) -> None:
        """Stop and forget what a closed page had going on."""
        session = self.sessions.forget(connection)
        if session is not None:
            self.runs.drop_owner(session)
            self.talks.drop(session)
            self.surveys.drop_owner(session)


def _cannot_speak() -> BackendError:
    return BackendError(
        "make speech",
        found="a model that cannot make sound",
        expected="a checkpoint with a folder token2wav",
        todo="Choose another model.",
    )


def shown_name(model: str) -> str:
    """Return a checkpoint's name for the page: of a folder its last part, so that no path is shown to visitors."""
    is_folder = model.startswith((".", "/", "~")) or Path(model).is_absolute()
    return Path(model).name or model if is_folder else model


def whole_share(stage: str, share: float) -> float:
    """Return the share of the whole load, 0..1, when `share` of one stage is done."""
    begins = [*STAGES.values(), 1.0]
    place = list(STAGES).index(stage) if stage in STAGES else 0
    share = min(1.0, max(0.0, float(share)))
    return begins[place] + share * (begins[place + 1] - begins[place])


def load_engine(settings: Settings, progress: Progress) -> Engine:
    """Load the checkpoint that the settings name; torch is first imported here.

    Raises:
        CheckpointError: If it cannot be loaded, in a sentence.
    """
    from analysis.candidate_probabilities import candidate_probabilities
    from analysis.capture import capture_trace
    from model.backends.local import LocalBackend
    from model.checkpoint import load_model

    loaded = load_model(settings.model, device=settings.device, dtype=settings.dtype, progress=progress, voice=True)

    def capture(conversation, reply_ids, events):
        return capture_trace(loaded, conversation, reply_ids, events=events)

    def weigh(conversation, replies, cancel):
        return candidate_probabilities(loaded, conversation, replies, cancel=cancel)

    backend = LocalBackend(loaded)
    return Engine(backend, capture, _facts(loaded.info, backend.info), speech_of(loaded), weigh=weigh)


def _facts(info, backend_info) -> ModelFacts:
    """Gather what the page tells about a loaded model."""
    card = Path(info.card_path) if info.card_path else None
    return ModelFacts(
        name=shown_name(str(info.name)),
        revision=str(info.revision or ""),
        device=str(info.device),
        dtype=str(info.dtype).removeprefix("torch."),
        n_parameters=int(info.n_parameters),
        memory_bytes=int(info.memory_bytes),
        logit_shift=None if info.health is None else float(info.health.logit_shift),
        card=card.read_text(encoding="utf-8") if card and card.is_file() else "",
        is_scripted=bool(backend_info.get("scripted", False)),
        capabilities=tuple(map(str, backend_info.get("capabilities", ()))),
        trained_tasks=info.trained_tasks,
    )
