"""A search for voices: "speak like a gentle old man" finds a recording whose timbre the reply then takes.

    request ──gender and age that its words name──> filters ─┐
            └─the rest, without "please speak with a ..."────┴──> libraries ──> best voice ──> data["voice"]["id"]

The tool only names the voice. Whoever runs the turn looks its recording up with `recording_of` and gives it to the
vocoder; the language model cannot hear it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from model.audio import Waveform
from model.errors import ToolError
from model.tools.base import ToolContext, ToolOutput, object_schema, quote
from model.tools.voice_library import AGES, GENDERS, VoiceEntry, VoiceHit, VoiceLibrary

SOURCE = "voice library"
_N_OTHERS = 3
_N_LOOKED_AT = 50
"""Voices of each library that are compared."""
_FITS = 0.34
"""Share of the words asked for that a voice must have, where gender and age alone did not find it."""
_TALK = re.compile(
    r"\b(?:please|speak|speaking|talk|say|use|using|change|changed|switch|your|you|my|me|to|a|an|the|in|with|like|into|"
    r"voices?|sounds?|timbre|tone|another|different|other|someone|somebody|person|now|want|would|could|can|i|let|and)\b|"
    r"请用|换成|换个|换一个|换一种|换|变成|切换|切换到|使用|用|说话|说|讲话|讲|声音|音色|嗓音|语音|声线|像|一样|一个|一种|一位|"
    r"另外|别的|另一个|其他|跟我|和我|聊天|聊|来|的|吧|请|你|我|想|要|听|给|帮|把|能|可以|那样|声",
    re.IGNORECASE,
)
"""What people say around the words that describe a voice."""
_OTHER = re.compile(r"\b(?:another|different|other)\b|换个|换一|另|别的|其他", re.IGNORECASE)
_GENDER_WORDS = {
    "female": r"\b(?:female|wom[ae]n|girls?|lad(?:y|ies)|mother|mom|grandmother|grandma|aunt|sister|queen)\b|"
    r"女|姐|妹|阿姨|奶奶|外婆|姥姥|妈|姑娘|御姐|萝莉|大妈|婆婆",
    "male": r"\b(?:male|m[ae]n|boys?|guy|gentleman|father|dad|grandfather|grandpa|uncle|brother|king)\b|"
    r"男|哥|弟|叔|爷爷|外公|姥爷|爸|先生|正太|大爷|老头|小伙",
}
_AGE_WORDS = {
    "child": r"\b(?:child|children|kids?|little (?:boy|girl)|baby)\b|"
    r"小孩|孩子|儿童|童声|小男孩|小女孩|小朋友|萝莉|正太|宝宝",
    "elderly": r"\b(?:old|elderly|aged|grandmother|grandma|grandfather|grandpa|senior)\b|"
    r"老人|老年|老奶奶|老爷爷|爷爷|奶奶|外婆|外公|姥姥|姥爷|老头|年老|大爷|老太",
    "young": r"\b(?:young|youth|youthful|teen(?:age)?r?|boys?|girls?)\b|年轻|青年|少女|少年|小伙|姑娘|小姐姐|小哥哥",
    "adult": r"\b(?:adult|grown|middle.aged)\b|成年|中年|大叔|阿姨|御姐|叔叔|成熟",
}


@dataclass(frozen=True)
class Request:
    """What was asked for, taken apart."""

    words: str
    """What describes the voice; may be empty."""
    gender: str
    """Insisted on; empty when nobody said."""
    age: str
    """Preferred, or insisted on when it came as an argument."""
    style: str
    """Preferred."""
    any_other: bool
    """Whether it is just about another voice than now."""


def read_request(query: str, gender: str = "", age: str = "", style: str = "") -> Request:
    """Take a request apart; what the arguments say wins over what the words say.

    >>> read_request("换成温柔的女声")
    Request(words='温柔', gender='female', age='', style='', any_other=False)
    """
    gender = gender or _named(query, _GENDER_WORDS, only=True)
    age = age or _named(query, _AGE_WORDS)
    rest = query
    for patterns in (_AGE_WORDS, _GENDER_WORDS):
        for pattern in patterns.values():
            rest = re.sub(pattern, " ", rest, flags=re.IGNORECASE)
    rest = " ".join(re.sub(r"[\W_]+", " ", _TALK.sub(" ", rest)).split())
    words = f"{rest} {style}".strip()
    return Request(words, gender, age, style, bool(_OTHER.search(query)) or not (words or gender or age))


def _named(query: str, patterns: Mapping[str, str], only: bool = False) -> str:
    """Return the first kind that is named; with `only`, none when two are."""
    named = [kind for kind, pattern in patterns.items() if re.search(pattern, query, re.IGNORECASE)]
    return named[0] if named and not (only and len(named) > 1) else ""


@dataclass(frozen=True)
class AudioSearch:
    """Finds a voice in libraries; the user's own first, then those that ship with the model."""

    libraries: Sequence[VoiceLibrary] = ()
    name: str = "audio_search"
    description: str = "Search the voice library for a recording and answer in its voice; use it to change the timbre."
    timeout_s: float = 5.0
    parameters: Mapping[str, Any] = field(
        default_factory=lambda: object_schema(
            ("query",),
            query={"type": "string", "description": "What the voice is like.", "minLength": 1, "maxLength": 200},
            gender={"type": "string", "enum": list(GENDERS)},
            age={"type": "string", "enum": list(AGES)},
            style={"type": "string", "description": "Such as calm, cheerful or news.", "maxLength": 60},
        )
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Find a voice.

        Args:
            arguments: `query`, and filters if they are known.
            context: Its `voice` is the one that "another voice" must not be.

        Raises:
            ToolError: If the libraries are empty.
        """
        query, style = arguments["query"], arguments.get("style", "")
        language = context.language_of(query, style)
        request = read_request(query, arguments.get("gender", ""), arguments.get("age", ""), style)
        hits = self._search(request, insist="age" in arguments, avoid=context.voice if request.any_other else "")
        if not hits:
            text = "音色库里没有合适的声音。" if language == "zh" else "No voice in the library fits."
            return ToolOutput(text, {"voice": None, "others": [], "source": SOURCE}, SOURCE)
        shown = [_shown(hit.entry, language) for hit in hits]
        return ToolOutput(_words(hits[0].entry, language), {"voice": shown[0], "others": shown[1:]}, SOURCE)

    def _search(self, request: Request, *, insist: bool, avoid: str) -> list[VoiceHit]:
        """Rank voices by age, style, and words, in this order; the first library wins a tie."""
        if not any(map(len, self.libraries)):
            raise ToolError(
                "search for a voice",
                found="a voice library without voices",
                expected="at least one recording",
                todo="Add a recording first, and keep the present voice until then",
            )
        filters = {"gender": request.gender, "age": request.age if insist else ""}
        found: dict[str, VoiceHit] = {}
        styled: set[str] = set()
        for library in self.libraries:
            if request.style:
                styled |= {
                    hit.entry.id for hit in library.search("", style=request.style, **filters, limit=_N_LOOKED_AT)
                }
            for words in (request.words, ""):
                for hit in library.search(words, **filters, limit=_N_LOOKED_AT):
                    found.setdefault(hit.entry.id, hit)
        good = [hit for hit in found.values() if hit.entry.id != avoid and _fits(hit, request)]
        ranked = sorted(good, key=lambda hit: (not _is_of_age(hit, request), hit.entry.id not in styled, -hit.coverage))
        return ranked[: _N_OTHERS + 1]


def _is_of_age(hit: VoiceHit, request: Request) -> bool:
    return not request.age or hit.entry.age == request.age


def _fits(hit: VoiceHit, request: Request) -> bool:
    """Whether to offer a voice: its words fit, or its gender or age does, or any other one will do."""
    if request.gender or (request.words and hit.coverage >= _FITS):
        return True
    return _is_of_age(hit, request) if request.age else request.any_other and not request.words


def recording_of(voice_id: str, libraries: Sequence[VoiceLibrary]) -> Waveform:
    """Read the sound of a voice that a search named, 24 kHz mono.

    Raises:
        ToolError: If no library has it.
        AudioError: If its file is missing or damaged.
    """
    for library in libraries:
        if library.get(voice_id) is not None:
            return library.recording(voice_id)
    raise ToolError(
        f"read the voice {voice_id!r:.60}",
        found="no such voice in any library",
        expected="an id that a search gave",
        todo="Search again: it may have been removed",
    )


def _shown(entry: VoiceEntry, language: str) -> dict[str, str]:
    """What programs and people learn of a voice; not where its file lies."""
    shown = {key: value for key, value in asdict(entry).items() if key not in ("file", "description_zh")}
    return {**shown, "description": _description(entry, language)}


def _description(entry: VoiceEntry, language: str) -> str:
    first, second = entry.description, entry.description_zh
    return (second or first) if language == "zh" else (first or second)


def _words(entry: VoiceEntry, language: str) -> str:
    about = ", ".join(quote(text) for text in (entry.name, _description(entry, language)) if text)
    if language == "zh":
        return f"找到声音：{about}\n回答会用这个声音。"
    return f"Voice found: {about}\nThe answer will be in this voice."
