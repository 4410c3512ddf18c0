"""Questions of the world with exact answers: sums, comparisons, capitals, languages, weekdays, colours, animals, words.

    facts.tsv      what is so: relation, subject, answer          questions.tsv   how it is asked and answered
    topic ──solver──> the words of one question, its answer computed ──patterns──> Exchange (English or Chinese)

Answers are right by construction: a solver computes them or reads them from the table. Drawn words obey the split of
`sides`; the answer itself does not count as drawn, or some capitals could never be learned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from model.tasks.normalize import number_in_words
from model.training.world import grammar, sides
from model.training.world.grammar import SlotValue

LANGUAGES = ("en", "zh")
_HERE = Path(__file__).parent
_YES, _NO = SlotValue("yes", "对"), SlotValue("no", "不对")
_DIGITS_ZH = "零一二三四五六七八九"
_TONGUES = {"en": SlotValue("Chinese", "中文"), "zh": SlotValue("English", "英文")}
"""The other language, by the one that is spoken."""
Words = dict[str, SlotValue]


@dataclass(frozen=True)
class Exchange:
    """One thing said to the assistant, and the right reply."""

    human: str
    reply: str
    language: str
    """Of both: "en" or "zh"."""
    topic: str
    key: str
    """What a right reply has to name: parts joined by `+`, alternatives by `/`; empty where wording is free."""
    others: tuple[str, ...] = ()
    """Answers of the same kind that a right reply must not name."""
    why: str = ""
    """What follows from what was heard, for a thought."""
    manner: str = ""
    """The emotion it has to be said with; empty where any will do."""
    register: str = ""
    """The tone a right reply has; empty where any will do. See `dialogue`."""
    template: str = ""
    """Pattern it came from, such as "questions:12"."""
    values: tuple[tuple[str, str], ...] = field(default=())
    """Drawn words, slot -> English."""


@dataclass(frozen=True)
class Question:
    """One row of `questions.tsv`."""

    index: int
    held: bool
    topic: str
    question: tuple[str, str]
    reply: tuple[str, str]
    why: tuple[str, str]


def read_rows(name: str, width: int) -> list[list[str]]:
    """Read a table beside this file: tab-separated, `#` starts a comment line.

    Raises:
        ValueError: Naming the first line of another width.
    """
    rows = []
    for number, line in enumerate((_HERE / name).read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("#"):
            rows.append([cell.strip() for cell in line.split("\t")])
            if len(rows[-1]) != width:
                raise ValueError(
                    f"Could not read line {number} of {name}: found {len(rows[-1])} cells, expected {width} "
                    "with tabs between them; correct the line."
                )
    return rows


@cache
def questions() -> tuple[Question, ...]:
    """All ways to ask, in file order."""
    return tuple(
        Question(i, use == "held", topic, (q_en, q_zh), (r_en, r_zh), (w_en, w_zh))
        for i, (use, topic, q_en, q_zh, r_en, r_zh, w_en, w_zh) in enumerate(read_rows("questions.tsv", 8))
    )


@cache
def relation(name: str) -> tuple[tuple[SlotValue, SlotValue], ...]:
    """Subjects of a relation with their answers."""
    rows = [row for row in read_rows("facts.tsv", 5) if row[0] == name]
    return tuple((SlotValue(en, zh), SlotValue(a_en, a_zh)) for _, en, zh, a_en, a_zh in rows)


def number(value: int) -> SlotValue:
    """A number from 0 to 999 in words: 24 is "twenty four" and 二十四."""
    return SlotValue(number_in_words(value), _number_zh(value))


def _number_zh(value: int, inside: bool = False) -> str:
    if value < 10:
        return _DIGITS_ZH[value]
    if value < 100:
        tens, unit = divmod(value, 10)
        lead = _DIGITS_ZH[tens] if tens > 1 or inside else ""
        return lead + "十" + (_DIGITS_ZH[unit] if unit else "")
    hundreds, rest = divmod(value, 100)
    if not rest:
        return _DIGITS_ZH[hundreds] + "百"
    return _DIGITS_ZH[hundreds] + "百" + ("零" if rest < 10 else "") + _number_zh(rest, inside=True)


# --- solvers: rng, language -> the words of a question with its answer ------------------------------


def _pick(rng: np.random.Generator, items):
    return items[rng.integers(len(items))]


_SMALL = tuple(range(11))
_AMOUNTS = (5, 10, 12, 15, 20, 25, 30, 50, 100, 200)


def _plus(rng: np.random.Generator, language: str) -> Words:
    a = _pick(rng, _SMALL) if rng.random() < 0.75 else _pick(rng, _AMOUNTS)
    b = _pick(rng, _SMALL)
    return {"a": number(a), "b": number(b), "answer": number(a + b)}


def _minus(rng: np.random.Generator, language: str) -> Words:
    a = _pick(rng, _SMALL) if rng.random() < 0.75 else _pick(rng, _AMOUNTS[1:])
    b = int(rng.integers(min(a, 10) + 1))
    return {"a": number(a), "b": number(b), "answer": number(a - b)}


def _times(rng: np.random.Generator, language: str) -> Words:
    a, b = (_pick(rng, _SMALL) for _ in "ab")
    return {"a": number(a), "b": number(b), "answer": number(a * b)}


def _half(rng: np.random.Generator, language: str) -> Words:
    a = _pick(rng, (2, 4, 6, 8, 10, 12, 20, 30, 50, 100, 200))
    return {"a": number(a), "answer": number(a // 2)}


def _after(rng: np.random.Generator, language: str) -> Words:
    a = _pick(rng, tuple(range(31)))
    return {"a": number(a), "answer": number(a + 1)}


def _two_numbers(rng: np.random.Generator) -> tuple[int, int, Words]:
    a, b = rng.choice(_SMALL if rng.random() < 0.5 else _AMOUNTS, size=2, replace=False).tolist()
    return a, b, {"a": number(a), "b": number(b), "big": number(max(a, b)), "little": number(min(a, b))}


def _more(rng: np.random.Generator, language: str) -> Words:
    a, b, words = _two_numbers(rng)
    return {**words, "answer": _YES if a > b else _NO}


def _less(rng: np.random.Generator, language: str) -> Words:
    a, b, words = _two_numbers(rng)
    return {**words, "answer": _YES if a < b else _NO}


def _larger(rng: np.random.Generator, language: str) -> Words:
    _, _, words = _two_numbers(rng)
    return {**words, "answer": words["big"]}


def _known(name: str) -> Callable[[np.random.Generator, str], Words]:
    def solve(rng: np.random.Generator, language: str) -> Words:
        subject, answer = _pick(rng, relation(name))
        return {"a": subject, "answer": answer}

    return solve


def _in_country(rng: np.random.Generator, language: str) -> Words:
    city, land = _pick(rng, relation("where"))
    asked = land if rng.random() < 0.5 else _pick(rng, [other for _, other in relation("where") if other != land])
    return {"a": city, "b": asked, "land": land, "answer": _YES if asked == land else _NO}


def _ranked(name: str, *, yes_no: bool = False) -> Callable[[np.random.Generator, str], Words]:
    def solve(rng: np.random.Generator, language: str) -> Words:
        while True:
            (a, rank_a), (b, rank_b) = (_pick(rng, relation(name)) for _ in "ab")
            if rank_a != rank_b:
                break
        big, little = (a, b) if int(rank_a.english) > int(rank_b.english) else (b, a)
        answer = big if not yes_no else _YES if big == a else _NO
        return {"a": a, "b": b, "big": big, "little": little, "answer": answer}

    return solve


def _translated(slot: str) -> Callable[[np.random.Generator, str], Words]:
    """A word and what it is in the other language: the answer is in that one, whoever asks."""

    def solve(rng: np.random.Generator, language: str) -> Words:
        word = _pick(rng, grammar.slots()[slot])
        return {"a": word, "tongue": _TONGUES[language], "answer": SlotValue(word.chinese, word.english)}

    return solve


SOLVERS: Mapping[str, Callable[[np.random.Generator, str], Words]] = {
    "plus": _plus,
    "minus": _minus,
    "times": _times,
    "half": _half,
    "after": _after,
    "more": _more,
    "less": _less,
    "larger": _larger,
    **{name: _known(name) for name in ("capital", "speak", "where", "next day", "next season", "color", "eat")},
    **{name: _known(name) for name in ("opposite", "how many", "job place")},
    "in country": _in_country,
    "size": _ranked("size"),
    "is bigger": _ranked("size", yes_no=True),
    "area": _ranked("area"),
    "say color": _translated("color"),
    "say animal": _translated("animal"),
}
"""By topic of `questions.tsv`."""
_NUMBER_TOPICS = frozenset({"plus", "minus", "times", "half", "after", "larger"})
_DRAWN = ("a", "b")


@cache
def _answers(topic: str, language: str) -> tuple[str, ...]:
    """Everything that could be the answer to a question of this topic."""
    side = LANGUAGES.index(language)
    if topic in _NUMBER_TOPICS:
        found = [number(n) for n in range(401)]
    elif topic in ("more", "less", "in country", "is bigger"):
        found = [_YES, _NO]
    elif topic in ("size", "area"):
        found = [subject for subject, _ in relation(topic)]
    elif topic.startswith("say "):
        found = [SlotValue(v.chinese, v.english) for v in grammar.slots()[topic.removeprefix("say ")]]
    else:
        found = [answer for _, answer in relation(topic)]
    return tuple(dict.fromkeys((value.english, value.chinese)[side] for value in found))


def ask(question: Question, words: Words, language: str) -> tuple[Exchange, bool]:
    """Put the words of a topic into one way to ask; and whether that is held out."""
    side = LANGUAGES.index(language)
    human, reply, why = (sides.fill(p, words) for p in (question.question, question.reply, question.why))
    answer = (words["answer"].english, words["answer"].chinese)[side]
    drawn = [words[name].english for name in _DRAWN if name in words]
    exchange = Exchange(
        human=human[side],
        reply=reply[side],
        language=language,
        topic=question.topic,
        key=answer,
        others=_wrong(question.topic, language, answer, human[side]),
        why=why[side],
        template=f"questions:{question.index}",
        values=tuple((name, words[name].english) for name in _DRAWN if name in words),
    )
    # Both languages decide, so that a question and its translation are always on the same side.
    told = any(sides.gives_away(text) for text in (*human, *reply, *why) if text)
    return exchange, question.held or sides.has_held_pair(drawn) or told


def _wrong(topic: str, language: str, answer: str, human: str) -> tuple[str, ...]:
    """Answers that must not be named: all others of the kind, but those that the question or the answer holds."""
    said = f" {human} ".lower() + f" {answer} ".lower()
    return tuple(other for other in _answers(topic, language) if other.lower() not in said)


def sample(
    rng: np.random.Generator, language: str, *, held_out: bool = False, topics: tuple[str, ...] = ()
) -> Exchange:
    """Draw one question of the training or of the held-out side.

    Args:
        rng: Source of chance; the same state draws the same question.
        language: "en" or "zh".
        held_out: Which side.
        topics: Only these; none means all, each as often.

    Raises:
        RuntimeError: If the tables have no such question.
    """
    wanted = topics or tuple(SOLVERS)

    def make() -> tuple[Exchange, bool]:
        topic = _pick(rng, wanted)
        question = _pick(rng, [q for q in questions() if q.topic == topic])
        return ask(question, SOLVERS[topic](rng, language), language)

    return sides.draw_on_side(make, held_out, "a question")


def sample_follow_up(rng: np.random.Generator, language: str, *, held_out: bool = False) -> tuple[Exchange, Exchange]:
    """Draw a question and a shorter one after it that only the first explains: "And of Japan?".

    The pair is held out when either question is.

    Raises:
        RuntimeError: If the tables have no such pair.
    """
    table = read_rows("follow_ups.tsv", 4)

    def make() -> tuple[tuple[Exchange, Exchange], bool | None]:
        use, topic, english, chinese = _pick(rng, table)
        question = _pick(rng, [q for q in questions() if q.topic == topic])
        # "Do you know ...? Yes, it is ..." reads oddly as the answer to "And of Japan?", so only plain replies go on.
        after = replace(next(q for q in questions() if q.topic == topic), question=(english, chinese))
        first, first_held = ask(question, SOLVERS[topic](rng, language), language)
        second, second_held = ask(after, SOLVERS[topic](rng, language), language)
        second = replace(second, template=f"follow_ups:{table.index([use, topic, english, chinese])}")
        again = first.values == second.values
        # The same thing asked twice is on no side.
        return (first, second), None if again else use == "held" or first_held or second_held

    return sides.draw_on_side(make, held_out, "a follow-up")
