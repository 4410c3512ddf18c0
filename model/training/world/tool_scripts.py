"""Requests that need a tool, ask for one without naming it, or only sound as if: the call, its result, the reply.

    tool_scripts.tsv   request, call, reply     tool_things.tsv   what is searched, whose voice is wanted
    request ──> "Let me check." + call ──> the real tool, on an invented day and invented weather ──> result ──> reply

Results are written by the tools themselves (clock, weather, offline search, voice library), so nano reads in training
what it will read in use; replies follow from the same numbers. Drawn words obey the split of `sides`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from model.messages import ToolCall
from model.tools.audio_search import AudioSearch
from model.tools.base import ToolContext
from model.tools.clock import MONTHS, WEEKDAYS, WEEKDAYS_ZH, Clock
from model.tools.voice_library import VoiceEntry, VoiceLibrary
from model.tools.weather import SKY_WORDS, Weather
from model.tools.web_search import WebSearch
from model.training.world import grammar, sides
from model.training.world.facts import LANGUAGES, number, read_rows
from model.training.world.grammar import SlotValue

KINDS = ("explicit", "implicit", "none")
LEADS = {"en": "Let me check.", "zh": "我看一下。"}
"""What is said before a call."""
_DRY, _WET = (0, 1, 2, 3, 45), (61, 63, 65, 71, 73, 80, 95)
"""Weather codes without and with rain or snow."""
_COLD_C = 12
_SINGLE_DAYS = 10
"""The first so many values of the slot `day` are single days."""
Words = dict[str, SlotValue]


@dataclass(frozen=True)
class ToolScript:
    """One request with everything that follows."""

    human: str
    language: str
    kind: str
    """One of `KINDS`."""
    tool: str
    """The tool it needs, or, for the kind "none", the one it must not call."""
    call: ToolCall | None
    lead: str
    """What is said before the call; empty without one."""
    result: str
    """What the tool answered; empty without a call."""
    reply: str
    now: datetime
    """When it was asked."""
    template: str = ""
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Row:
    """One row of `tool_scripts.tsv`."""

    index: int
    held: bool
    kind: str
    tool: str
    request: tuple[str, str]
    arguments: tuple[tuple[str, str], ...]
    """(argument, slot)."""
    reply: tuple[str, str]


@cache
def rows() -> tuple[Row, ...]:
    """All requests, in file order."""
    found = []
    for index, (use, kind, tool, en, zh, arguments, reply, reply_zh) in enumerate(read_rows("tool_scripts.tsv", 8)):
        pairs = tuple((name, slot.strip("{}")) for name, slot in (each.split("=") for each in arguments.split()))
        found.append(Row(index, use == "held", kind, tool, (en, zh), pairs, (reply, reply_zh)))
    return tuple(found)


@cache
def things(slot: str) -> tuple[tuple[SlotValue, tuple[str, ...]], ...]:
    """What can be searched ("search"), or whose voice can be had ("voice", with gender and age)."""
    return tuple(
        (SlotValue(en, zh), tuple(more.split())) for s, en, zh, more in read_rows("tool_things.tsv", 4) if s == slot
    )


def sample(
    rng: np.random.Generator,
    language: str,
    *,
    held_out: bool = False,
    kinds: tuple[str, ...] = KINDS,
    tools: tuple[str, ...] = (),
) -> ToolScript:
    """Draw one script of the training or of the held-out side.

    Args:
        rng: Source of chance; the same state draws the same script.
        language: "en" or "zh".
        held_out: Which side.
        kinds: Only these kinds, each as often.
        tools: Only about these tools; none means all, each as often.

    Raises:
        RuntimeError: If the table has no such script.
    """

    def make() -> tuple[ToolScript, bool]:
        kind = kinds[rng.integers(len(kinds))]
        names = tools or tuple(dict.fromkeys(row.tool for row in rows()))
        tool = names[rng.integers(len(names))]
        table = [row for row in rows() if (row.kind, row.tool) == (kind, tool)]
        return play(table[rng.integers(len(table))], rng, language)

    return sides.draw_on_side(make, held_out, f"a tool script of {kinds}")


def play(row: Row, rng: np.random.Generator, language: str) -> tuple[ToolScript, bool]:
    """Draw the words of a request, run its call, and reply; and whether it is held out."""
    words, now = _draw(row, rng), _some_moment(rng)
    human = sides.fill(row.request, words)
    held = row.held or sides.has_held_pair(v.english for v in words.values()) or any(map(sides.gives_away, human))
    call, result, found, verdict = None, "", {}, True
    if row.kind != "none":
        call = ToolCall(row.tool, {name: _argument(words[slot], language) for name, slot in row.arguments})
        result, found, verdict = _RUN[row.tool](call.arguments, row, now, rng, language)
    reply = tuple(_chosen(text, verdict) for text in row.reply)
    script = ToolScript(
        human=human[LANGUAGES.index(language)],
        language=language,
        kind=row.kind,
        tool=row.tool,
        call=call,
        lead=LEADS[language] if call else "",
        result=result,
        reply=sides.fill(reply, {**words, **found})[LANGUAGES.index(language)],
        now=now,
        template=f"tool_scripts:{row.index}",
        values=tuple((name, value.english) for name, value in words.items()),
    )
    return script, held


def _draw(row: Row, rng: np.random.Generator) -> Words:
    names = sides.fields(*row.request)
    fixed: Words = {}
    for name in names:
        if name == "day":
            fixed[name] = grammar.slots()["day"][rng.integers(_SINGLE_DAYS)]
        elif name in ("search", "voice"):
            fixed[name] = things(name)[rng.integers(len(things(name)))][0]
    return sides.draw(names, rng, fixed)


def _some_moment(rng: np.random.Generator) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=int(rng.integers(3 * 365 * 24 * 60)))


def _argument(value: SlotValue, language: str) -> str:
    """A word as an argument: as it was said, without "on", "the" and "a"."""
    text = (value.english, value.chinese)[LANGUAGES.index(language)]
    return text if text == "the day after tomorrow" else re.sub(r"^(on|the|an|a) ", "", text)


def _chosen(reply: str, verdict: bool) -> str:
    yes, _, no = reply.partition(" / ")
    return yes if verdict or not no else no


# --- running the tools: arguments -> result text, words for the reply, yes or no --------------------


class _MadeUpSky:
    """Stands where the weather service stands: answers its question with invented weather."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.code = int(rng.choice(_WET if rng.random() < 0.5 else _DRY))
        self.low = int(rng.integers(0, 22))
        self.high = self.low + int(rng.integers(3, 11))

    def get_json(self, url: str, params: Mapping[str, str], *, hosts: tuple[str, ...]) -> dict[str, Any]:
        """Answer for one day, in the service's form."""
        middle = (self.low + self.high) // 2
        now = {"temperature_2m": middle, "apparent_temperature": middle - 1, "relative_humidity_2m": 60}
        return {
            "current": {**now, "weather_code": self.code, "wind_speed_10m": 8},
            "daily": {
                "time": [params["start_date"]],
                "weather_code": [self.code],
                "temperature_2m_max": [self.high],
                "temperature_2m_min": [self.low],
                "precipitation_probability_max": [80 if self.code in _WET else 5],
            },
        }


def _weather(arguments: Mapping[str, str], row: Row, now: datetime, rng: np.random.Generator, language: str):
    sky = _MadeUpSky(rng)
    output = Weather(door=sky).run(arguments, _context(now, language))
    words = {"low": number(sky.low), "high": number(sky.high), "sky": SlotValue(*SKY_WORDS[sky.code])}
    asked_cold = "coat" in row.request[0]
    return output.text, words, sky.low < _COLD_C if asked_cold else sky.code in _WET


def _clock(arguments: Mapping[str, str], row: Row, now: datetime, rng: np.random.Generator, language: str):
    output = Clock().run(arguments, _context(now, language))
    local = datetime.fromisoformat(output.data["iso"])
    day, month = number(local.day), number(local.month)
    words = {
        "time": _time_words(local),
        "weekday": SlotValue(WEEKDAYS[local.weekday()], WEEKDAYS_ZH[local.weekday()]),
        "date": SlotValue(f"{MONTHS[local.month - 1]} {day.english}", f"{month.chinese}月{day.chinese}号"),
    }
    late = local.hour >= 22 or local.hour < 7
    verdict = {"already afternoon": local.hour >= 12, "weekend": local.weekday() >= 5}
    return output.text, words, next((v for word, v in verdict.items() if word in row.request[0]), late)


def _time_words(moment: datetime) -> SlotValue:
    """Say a time on a clock of twelve hours: "seven thirty in the evening", 晚上七点三十分."""
    part = ("at night", "夜里") if moment.hour < 5 else ("in the morning", "早上") if moment.hour < 12 else (
        ("in the afternoon", "下午") if moment.hour < 18 else ("in the evening", "晚上"))  # fmt: skip
    hour, minute = number(moment.hour % 12 or 12), number(moment.minute)
    if not moment.minute:
        return SlotValue(f"{hour.english} o'clock {part[0]}", f"{part[1]}{_clock_zh(hour)}点")
    small = "oh " if moment.minute < 10 else ""
    zero = "零" if moment.minute < 10 else ""
    english = f"{hour.english} {small}{minute.english} {part[0]}"
    return SlotValue(english, f"{part[1]}{_clock_zh(hour)}点{zero}{minute.chinese}分")


def _clock_zh(hour: SlotValue) -> str:
    return "两" if hour.chinese == "二" else hour.chinese


def _web(arguments: Mapping[str, str], row: Row, now: datetime, rng: np.random.Generator, language: str):
    output = WebSearch(engine=None).run(arguments, _context(now, language))
    results = output.data["results"]
    if not results:
        raise RuntimeError(f"The offline search knows nothing about {arguments['query']!r}: change tool_things.tsv.")
    text = results[0]["text"]
    return output.text, {"fact": SlotValue(text, text)}, True


def _voice(arguments: Mapping[str, str], row: Row, now: datetime, rng: np.random.Generator, language: str):
    output = AudioSearch((_library(),)).run(arguments, _context(now, language))
    return output.text, {}, True


def _context(now: datetime, language: str) -> ToolContext:
    return ToolContext(language=language, now=lambda: now)


@cache
def _library() -> VoiceLibrary:
    """A library with one voice for each that can be asked for."""
    library = VoiceLibrary()
    for index, (who, (gender, age)) in enumerate(things("voice"), 1):
        name, name_zh = who.english.removeprefix("an ").removeprefix("a "), who.chinese
        entry = VoiceEntry(
            f"voice-{index}", name.title(), gender, age, "", "en", f"The voice of {who.english}.", f"{name_zh}的声音。"
        )
        library.put(entry)
    return library


_RUN = {"get_weather": _weather, "get_date_time": _clock, "web_search": _web, "audio_search": _voice}
