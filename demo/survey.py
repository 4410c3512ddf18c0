"""Eleven questions about one recording: what was asked, what came back, and files to take it along.

    Survey ── waveform, prosody
       └── asked: one Asked for each dimension ── answer, candidates with their probabilities, what a run needs

Knows neither gradio nor the page.
"""

import csv
import io
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from demo.errors import Problem
from demo.runs import new_id
from demo.transcript import UNDER_WAY, Phase
from model.audio import Waveform
from model.events import Event
from model.messages import Conversation
from model.tasks.paralinguistics import DIMENSIONS, Paralinguistics, exact, labels, questions, reply

if TYPE_CHECKING:
    from analysis.candidate_probabilities import CandidateProbabilities
    from analysis.prosody import Prosody

State = Literal["waiting", "asking", "weighing", "done", "length", "repetition", "stopped", "failed"]
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Candidate:
    """One label the model could have named."""

    label: str
    """Its name in the table of labels."""
    word: str
    """How an answer says it."""
    share: float
    """Probability of its sentence divided by that of all candidates, 0 to 1."""
    logprob: float
    """Natural log-probability of its whole sentence."""


@dataclass(frozen=True)
class Asked:
    """One question and what came back."""

    dimension: str
    language: str
    state: State = "waiting"
    answer: str = ""
    candidates: tuple[Candidate, ...] = ()
    """Most likely first; empty before they were weighed, or where the backend gives none."""
    coverage: float | None = None
    """Probability that the whole answer is one of the candidate sentences."""
    problem: Problem | None = None
    conversation: Conversation = field(default=(), repr=False, compare=False)
    events: tuple[Event, ...] = field(default=(), repr=False, compare=False)
    """Of the finished turn, for looking inside."""

    @property
    def question(self) -> str:
        """What is asked."""
        return questions(self.dimension, self.language)[0]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The candidate answers, in the order of the labels."""
        return tuple(reply(self.dimension, name, self.language) for name in labels(self.dimension))

    @cached_property
    def named(self) -> str | None:
        """The one label that the answer names, by the rules of the benchmark; None if it names none or several."""
        return next((name for name in labels(self.dimension) if exact(self.dimension, self.answer, name)), None)

    @property
    def can_be_inspected(self) -> bool:
        """Whether there is a finished turn to look into."""
        return bool(self.events) and self.state in ("done", "length", "repetition")

    def word(self, label: str) -> str:
        """Say a label as an answer does."""
        return labels(self.dimension)[label].word(self.language)

    def asks(self, waveform: Waveform, name: str) -> Conversation:
        """Return the conversation that asks: the sound first, then the question."""
        return Paralinguistics.conversation(waveform, name=name, question=self.question)

    def weighed(self, found: "CandidateProbabilities") -> Self:
        """Return this with the probabilities of `sentences`."""
        rows = zip(labels(self.dimension), found.shares, found.logprob)
        candidates = [Candidate(name, self.word(name), float(share), float(log)) for name, share, log in rows]
        candidates.sort(key=lambda candidate: -candidate.share)
        return replace(self, candidates=tuple(candidates), coverage=found.coverage)


@dataclass(frozen=True, eq=False)
class Survey:
    """All questions about one recording; a new one replaces it with every step."""

    owner: str = ""
    """Id of the session that asked."""
    name: str = ""
    """What the recording is called."""
    waveform: Waveform | None = None
    asked: tuple[Asked, ...] = ()
    phase: Phase = "empty"
    note: str = ""
    """A remark on the recording, in words for the page."""
    problem: Problem | None = None
    prosody: "Prosody | None" = None
    waited_s: float = 0.0
    created_s: float = field(default_factory=time.time)
    id: str = field(default_factory=new_id)
    """Unguessable key."""

    @classmethod
    def of(cls, owner: str, name: str, waveform: Waveform, language: str, note: str = "") -> Self:
        """Return a survey with everything still to be asked, in "en" or "zh"."""
        language = language if language in LANGUAGES else LANGUAGES[0]
        asked = tuple(Asked(dimension, language) for dimension in DIMENSIONS)
        return cls(owner, name, waveform, asked, "listening", note)

    @property
    def is_under_way(self) -> bool:
        """True until all was asked, or it was stopped."""
        return self.phase in UNDER_WAY

    @property
    def n_answered(self) -> int:
        """Count the questions that are over."""
        return sum(one.state not in ("waiting", "asking", "weighing") for one in self.asked)

    @property
    def n_bytes(self) -> int:
        """Memory of the sound and the curves, in bytes."""
        sound = 0 if self.waveform is None else self.waveform.samples.nbytes
        curves = 0 if self.prosody is None else self.prosody.pitch_hz.nbytes * 5
        return sound + curves

    def with_asked(self, number: int, **changes: Any) -> Self:
        """Return the survey after something changed about one question."""
        asked = (*self.asked[:number], replace(self.asked[number], **changes), *self.asked[number + 1 :])
        return replace(self, asked=asked)

    def stopped(self) -> Self:
        """Return how this looks once it was stopped: what was answered stays."""
        if not self.is_under_way:
            return self
        asked = tuple(replace(one, state="stopped") if _is_open(one) else one for one in self.asked)
        return replace(self, phase="stopped", asked=asked)


def _is_open(one: Asked) -> bool:
    return one.state in ("waiting", "asking", "weighing")


# --- files ----------------------------------------------------------------------------------------


def table_csv(survey: Survey) -> str:
    """Return one line for each candidate label of each question."""
    columns = ("dimension", "question", "answer", "named", "label", "word", "share", "logprob", "coverage")
    rows: list[Sequence[Any]] = []
    for one in survey.asked:
        start = (one.dimension, one.question, one.answer, one.named or "")
        for c in one.candidates or (Candidate("", "", math.nan, math.nan),):
            rows.append((*start, c.label, c.word, _number(c.share), _number(c.logprob), _number(one.coverage)))
    return _csv(columns, rows)


def curves_csv(survey: Survey) -> str:
    """Return one line for each 10 ms of the recording; empty cells where there is no pitch."""
    rows = survey.prosody.table() if survey.prosody is not None else []
    names = ("time_s", "pitch_hz", "loudness_db", "rate_per_s")
    return _csv(names, [["" if row[name] is None else row[name] for name in names] for row in rows])


def whole_json(survey: Survey, model: str) -> str:
    """Return everything that was measured; the sound itself is not in it."""
    summary = survey.prosody.summary if survey.prosody is not None else {}
    content = {
        "model": model,
        "recording": survey.name,
        "seconds": survey.waveform.duration_s if survey.waveform else None,
        "created_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(survey.created_s)),
        "asked": [_asked_json(one) for one in survey.asked],
        "prosody": {name: value if math.isfinite(value) else None for name, value in summary.items()},
        "curves": survey.prosody.table() if survey.prosody is not None else [],
    }
    return json.dumps(content, ensure_ascii=False, indent=1)


def _asked_json(one: Asked) -> dict[str, Any]:
    candidates = [{"label": c.label, "word": c.word, "share": c.share, "logprob": c.logprob} for c in one.candidates]
    return {
        "dimension": one.dimension,
        "question": one.question,
        "state": one.state,
        "answer": one.answer,
        "named": one.named,
        "coverage": one.coverage,
        "candidates": candidates,
    }


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_as_text(cell) for cell in row] for row in rows)
    return out.getvalue()


def _as_text(cell: Any) -> Any:
    """Keep a spreadsheet from running what a model has written."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"
