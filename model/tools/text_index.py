"""Full-text search for short texts in English and Chinese, on SQLite FTS5.

    "The capital of Japan is Tokyo."  ->  capital  japan  tokyo              words, without the ones that say nothing
    "日本的首都是东京。"               ->  日 本 日本  首 都 首都  东 京 东京    characters and pairs of them

FTS5 cannot cut Chinese into words, so texts are cut here, and FTS5 is given terms with spaces between them. It finds
candidates by BM25; then they are ranked by coverage: how much of what the question says, weighted by how rare each term
is, also stands in the text. Coverage is between 0 and 1 and does not depend on the collection's size, so a bound on it
tells "nothing found" from "found", and hits of two collections can be put in one order.
"""

import math
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from model.errors import ToolError

MIN_COVERAGE = 0.5
_N_CANDIDATES = 60
_MAX_TERMS = 64
"""Terms of a question that are looked up; more than a spoken sentence has."""
_MAX_CHARS = 4_000
"""Characters of a text that are indexed."""
_SINGLE, _NO_WORD = 0.5, 0.3
"""Weight of a single Chinese character, and of a pair that no text has, against a pair or a word of the same rarity."""
_RUNS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+|[^\W_]+")
_IS_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_EMPTY_WORDS = frozenset(
    """a about am an and any are as at be been by called can could did do does find for from get give had has have he
    her his how i if in into is it its know let like look many me much my name no not of on or our please s say
    search she show so some t tell than that the their them there these they this those to up us want was we
    were what when where which who whose why will with would you your""".split()
)
_EMPTY_HAN = re.compile(
    "请问|告诉我|告诉|喜欢|帮我|搜索|搜一下|查一下|查找|一下|知道|什么|哪里|哪儿|哪个|哪些|哪种|哪国|怎么样|怎么|怎样|为什么|多少|"
    "是不是|有没有|可以|他们|我们|你们|它们|这个|那个|一个|是谁|[的是了吗呢吧啊呀请我你您他她它们在有和与会能就都也很最几谁把被给让]"
)
_WHOLE = ("首都", "都市")
"""Words that hold a character which says nothing elsewhere."""


@dataclass(frozen=True)
class Match:
    """One text that was found."""

    key: int
    coverage: float
    """Share of what was asked that the text has, 0 to 1; 1 where nothing was asked but tags."""


@lru_cache(maxsize=4096)
def terms(text: str) -> tuple[str, ...]:
    """Cut a text into search terms, in order; small letters, no accents, singular, no words that say nothing.

    >>> terms("What are the colours of pandas?")
    ('colour', 'panda')
    >>> terms("熊猫吃什么？")
    ('熊', '猫', '吃', '熊猫', '猫吃')
    """
    plain = unicodedata.normalize("NFKD", text[:_MAX_CHARS].casefold())
    plain = unicodedata.normalize("NFC", "".join(letter for letter in plain if not unicodedata.combining(letter)))
    found: list[str] = []
    for run in _RUNS.findall(plain):
        if _IS_HAN.match(run):
            found += _han_terms(run)
        elif run not in _EMPTY_WORDS:
            found.append(_singular(run))
    return tuple(found)


def _han_terms(run: str) -> list[str]:
    """Characters and pairs between the parts that say nothing."""
    for index, word in enumerate(_WHOLE):
        run = run.replace(word, chr(0xE000 + index))
    pieces = [piece for piece in _EMPTY_HAN.split(run) if piece]
    found = []
    for piece in pieces:
        for index, word in enumerate(_WHOLE):
            piece = piece.replace(chr(0xE000 + index), word)
        found += [*piece, *(piece[k : k + 2] for k in range(len(piece) - 1))]
    return found


def _singular(word: str) -> str:
    """Cut the commonest English plural and verb endings; both sides are cut alike, so it need not be a word."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


class TextIndex:
    """A table of texts inside a database; the owner of the connection sees to it that one thread uses it at a time."""

    def __init__(self, connection: sqlite3.Connection, name: str = "texts") -> None:
        """Open the table, or make it.

        Args:
            connection: An open database.
            name: Name of the table; letters only.

        Raises:
            ToolError: If this SQLite has no FTS5.
        """
        if not name.isidentifier():
            raise ValueError(f"{name!r} is no name for a table.")
        self._db, self._name = connection, name
        try:
            self._db.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS {name} USING fts5(body, tags, tokenize='unicode61')")
            self._db.execute(
                f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{name}_terms USING fts5vocab('main', '{name}', 'col')"
            )
        except sqlite3.OperationalError as error:
            raise ToolError(
                "open a text index",
                found=f"an SQLite that says: {error}",
                expected="SQLite with FTS5",
                todo="Install a Python whose sqlite3 has it; the builds of python.org and Debian do",
            ) from error

    def add(self, key: int, texts: str | Iterable[str], tags: Sequence[str] = ()) -> None:
        """Add a text, or replace the one of this key.

        Args:
            key: A whole number of the caller's.
            texts: What to find it by; several are searched as one.
            tags: Words that a search can insist on, made of letters and digits.
        """
        texts = [texts] if isinstance(texts, str) else texts
        body = " ".join(term for text in texts for term in terms(text))
        self.remove(key)
        row = (key, body, " ".join(map(_tag, tags)))
        self._db.execute(f"INSERT INTO {self._name}(rowid, body, tags) VALUES (?, ?, ?)", row)

    def remove(self, key: int) -> None:
        """Forget a text; one that is not there is fine."""
        self._db.execute(f"DELETE FROM {self._name} WHERE rowid = ?", (key,))

    def __len__(self) -> int:
        return self._db.execute(f"SELECT count(*) FROM {self._name}").fetchone()[0]

    def search(
        self, question: str, *, limit: int = 5, tags: Sequence[str] = (), min_coverage: float = MIN_COVERAGE
    ) -> list[Match]:
        """Find texts, best first.

        Args:
            question: Words in any order; operators of FTS5 mean nothing here.
            limit: At most so many.
            tags: Tags a text must have, all of them. With tags and no words, every text with the tags is found.
            min_coverage: Texts that have less of the question are left out.
        """
        asked = list(dict.fromkeys(terms(question)))[:_MAX_TERMS]
        conditions = [f"tags : {_tag(tag)}" for tag in tags]
        if asked:
            conditions.append("body : (" + " OR ".join(f'"{term}"' for term in asked) + ")")
        if not conditions:
            return []
        rows = self._db.execute(
            f"SELECT rowid, body FROM {self._name} WHERE {self._name} MATCH ? ORDER BY rank, rowid LIMIT ?",
            (" AND ".join(conditions), max(limit, _N_CANDIDATES)),
        ).fetchall()
        weights = self._weights(asked)
        whole = sum(weights.values())
        found = [(Match(key, _share(body, weights, whole)), _in_order(body, asked)) for key, body in rows]
        found = [(match, order) for match, order in found if match.coverage >= min_coverage]
        ranked = sorted(found, key=lambda pair: (-round(pair[0].coverage, 6), -pair[1]))
        return [match for match, _ in ranked[:limit]]

    def _weights(self, asked: Sequence[str]) -> dict[str, float]:
        """Weigh terms by rarity.

        A pair of characters that is in no text is often the end of one word and the start of the next, and weighs
        little; single characters say less than pairs.
        """
        if not asked:
            return {}
        n = len(self)
        marks = ", ".join("?" * len(asked))
        query = f"SELECT term, doc FROM temp.{self._name}_terms WHERE col = 'body' AND term IN ({marks})"
        counts = dict(self._db.execute(query, tuple(asked)).fetchall())
        weights = {}
        for term in asked:
            count, han = counts.get(term, 0), bool(_IS_HAN.match(term))
            rarity = math.log(1 + (n - count + 0.5) / (count + 0.5))
            weights[term] = rarity * (_SINGLE if han and len(term) == 1 else _NO_WORD if han and not count else 1.0)
        return weights


def _share(body: str, weights: dict[str, float], whole: float) -> float:
    """Weigh what a text has of the question; without a question, it has all of it."""
    has = set(body.split())
    return sum(weight for term, weight in weights.items() if term in has) / whole if whole else 1.0


def _in_order(body: str, asked: Sequence[str]) -> int:
    """Count neighbours of the question that are neighbours in the text: "after summer" is not "summer after"."""
    words = body.split()
    pairs = set(zip(words, words[1:], strict=False))
    return sum(pair in pairs for pair in zip(asked, asked[1:], strict=False))


def _tag(tag: str) -> str:
    """A tag as one FTS5 token: letters and digits only, so that it is no operator either."""
    return "tag" + "".join(letter for letter in tag.casefold() if letter.isalnum())
