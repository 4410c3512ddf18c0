"""Answer what was said, in the tone that fits how it was said.

    key "large+latte/lattes"      parts joined by + must all be named, one of those joined by / is enough
    others ("yes",)               answers of the same kind that must not be named beside the right one
    register "sad"                the reply has to open in this tone (registers.tsv)

Rules on whole words (characters for Mandarin), numerals read as words; no judge. A reply without key is compared with
its reference as a transcript would be.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from model.audio import Waveform
from model.messages import Audio, Control, Conversation, Message, Part, Text
from model.options import GenerationOptions
from model.tasks import prompts
from model.tasks.asr import ASR
from model.tasks.base import Example, Score, Task
from model.tasks.normalize import NORMALIZERS, is_chinese
from model.tokens import TTS_START

REGISTERS = ("happy", "sad", "angry", "neutral")
"""Tones of a reply, named by the emotion that they answer."""
FREE_ERROR_RATE = 0.3
"""A reply without key may differ from its reference by this share of words."""


class Chat(Task):
    """Conversation by voice or by text, of one or several turns.

    Metadata: `language`; `key`, `others` and `register` as above, each where it matters. 1 is right, 0 is wrong.
    """

    name = "chat"
    prompt = prompts.CHAT
    options = GenerationOptions(max_new_tokens=256)

    @staticmethod
    def conversation(
        waveform: Waveform | str,
        *,
        name: str = "",
        history: Sequence[tuple[Waveform | str, str]] = (),
        speak: bool = False,
        system: str = prompts.CHAT,
    ) -> Conversation:
        """Say something to the assistant.

        Args:
            waveform: What is said: a recording, or typed text.
            name: What people call the recording.
            history: What was said before, with the replies.
            speak: Whether the reply is spoken.
            system: System prompt.
        """
        before = tuple(
            message
            for said, reply in history
            for message in (Message("human", (_said(said),)), Message("assistant", (Text(reply),)))
        )
        return (
            Message("system", (Text(system),)),
            *before,
            Message("human", (_said(waveform, name),)),
            Message("assistant", (Control(TTS_START),) if speak else (), closed=False),
        )

    @classmethod
    def example(
        cls,
        said: Waveform | str,
        reference: str,
        *,
        id: str,
        language: str,
        key: str = "",
        others: Sequence[str] = (),
        register: str = "",
        history: Sequence[tuple[Waveform | str, str]] = (),
        speak: bool = False,
        **metadata: object,
    ) -> Example:
        """Make one question with what a right reply has to name."""
        conversation = cls.conversation(said, name=id, history=history, speak=speak)
        facts = {"language": language, "key": key, "others": tuple(others), "register": register}
        return Example(id, conversation, reference, {**facts, **metadata})

    @staticmethod
    def score(hypothesis: str, example: Example) -> Score:
        """Whether a reply is right, 1 or 0."""
        data = example.metadata
        language = data.get("language") or ("zh" if is_chinese(example.reference) else "en")
        problem = _problem(hypothesis, example, language)
        if data.get("register"):
            tone = register_of(hypothesis, language)
            problem = problem or ("" if tone == data["register"] else f"tone {tone}, expected {data['register']}")
        return Score(float(not problem), NORMALIZERS[language](hypothesis), problem or "right")


def _said(what: Waveform | str, name: str = "") -> Part:
    return Text(what) if isinstance(what, str) else Audio(what, name)


def _problem(reply: str, example: Example, language: str) -> str:
    """Name what is wrong with the words of a reply; empty when nothing is."""
    data = example.metadata
    if data.get("key"):
        return wrong_about(reply, data["key"], data.get("others", ()), language)
    if data.get("register"):
        return "" if reply.strip() else "no reply"
    score = ASR.score(reply, Example(example.id, (), example.reference, {"language": language}))
    return "" if score.value is not None and score.value <= FREE_ERROR_RATE else score.explanation


def wrong_about(reply: str, key: str, others: Sequence[str], language: str) -> str:
    """Name what a reply lacks or says too much; empty when it names the key and nothing else of the kind."""
    said = _units(reply, language)
    missing = [part for part in key.split("+") if not any(_units(w, language) in said for w in part.split("/"))]
    if missing:
        return f"does not name {', '.join(missing)}"
    right = _units(key.replace("+", " ").replace("/", " "), language)
    named = [other for other in others if _units(other, language) in said and _units(other, language) not in right]
    return f"names {', '.join(named)} too" if named else ""


@cache
def _units(text: str, language: str) -> str:
    """Text in which a word can be looked for: normalised, with spaces around every English word."""
    # A Chinese word may be the answer to an English question; it is looked for as it stands.
    normal = NORMALIZERS["zh" if is_chinese(text) and language == "zh" else language](text)
    return normal if language == "zh" or is_chinese(text) else f" {normal} "


# --- the tone of a reply ------------------------------------------------------------------------------


@cache
def register_lines(register: str, kind: str, language: str) -> tuple[str, ...]:
    """Openings ("open") of replies in one tone, or what a thought plans ("plan")."""
    text = (Path(__file__).parent / "registers.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]
    return tuple(row[2 + (language == "zh")] for row in rows if row[:2] == [register, kind])


def register_of(reply: str, language: str) -> str | None:
    """Tell the tone of a reply by its opening; None when it has none, or those of two tones."""
    said = NORMALIZERS[language](reply)
    found = set()
    for register in REGISTERS:
        lines = [NORMALIZERS[language](line) for line in register_lines(register, "open", language)]
        # "Okay" may stand anywhere; only at the start is it the tone.
        if any(said.startswith(line) or (register != "neutral" and line in said) for line in lines):
            found.add(register)
    return found.pop() if len(found) == 1 else None
