"""Talk of the world: small talk, orders, several turns that refer back, replies that depend on how a thing was said.

    dialogues.tsv   one or several turns, both languages; the last reply needs what was said before
    feelings.tsv    one sentence said in four ways    "I am going to Rome."  happily -> "That is wonderful! Have fun!"
    registers.tsv   how a reply opens in each tone    the same words         sadly   -> "I am here for you. ..."

The words alone never tell the tone of the reply; only the voice does. Drawn words obey the split of `sides`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from model.audio import Waveform
from model.tasks.base import Example
from model.tasks.chat import REGISTERS, Chat, register_lines
from model.training.world import sides
from model.training.world.facts import LANGUAGES, Exchange, read_rows

EMOTIONS = REGISTERS
"""How a sentence of `feelings.tsv` may be said; also the four tones of a reply."""
_HERE = Path(__file__).parent
_OPEN = {"en": " ", "zh": ""}
"""What stands between the opening of a reply and the rest."""


@dataclass(frozen=True)
class Dialogue:
    """Exchanges in order; the last reply is the one that is tested."""

    exchanges: tuple[Exchange, ...]

    @property
    def language(self) -> str:
        """Of all its turns: "en" or "zh"."""
        return self.exchanges[-1].language

    @property
    def topic(self) -> str:
        """What it is about."""
        return self.exchanges[-1].topic


@dataclass(frozen=True)
class Script:
    """One row of `dialogues.tsv`: person and assistant in turn, for each language."""

    index: int
    held: bool
    topic: str
    turns: tuple[tuple[str, str], ...]
    """(English, Chinese) patterns."""
    key: tuple[str, str]


@dataclass(frozen=True)
class Feeling:
    """One sentence of `feelings.tsv` with how its reply goes on, by emotion."""

    index: int
    held: bool
    said: tuple[str, str]
    replies: dict[str, tuple[str, str]]


@cache
def scripts() -> tuple[Script, ...]:
    """All dialogues, in file order.

    Raises:
        ValueError: If a row has not as many turns in both languages, or ends with the person.
    """
    found = []
    for index, (use, topic, english, chinese, *key) in enumerate(read_rows("dialogues.tsv", 6)):
        turns = [[turn.strip() for turn in text.split(" > ")] for text in (english, chinese)]
        if len(turns[0]) != len(turns[1]) or len(turns[0]) % 2:
            raise ValueError(
                f"Could not read dialogue {index} ({topic}): found {len(turns[0])} English and {len(turns[1])} Chinese "
                "turns, expected as many, person and assistant in pairs; correct the row."
            )
        found.append(Script(index, use == "held", topic, tuple(zip(*turns, strict=True)), tuple(key)))
    return tuple(found)


def play(script: Script, rng: np.random.Generator, language: str) -> tuple[Dialogue, bool]:
    """Draw the words of a dialogue; and whether it is held out."""
    side = LANGUAGES.index(language)
    patterns = [text for turn in script.turns for text in turn]
    words = sides.draw(sides.fields(*patterns), rng)
    turns = [sides.fill(turn, words) for turn in script.turns]
    key = sides.fill(script.key, words)[side]
    values = tuple((name, value.english) for name, value in words.items())
    last = len(turns) // 2 - 1
    exchanges = tuple(
        Exchange(
            human=human[side],
            reply=reply[side],
            language=language,
            topic=script.topic,
            key=key if k == last else "",
            template=f"dialogues:{script.index}",
            values=values,
        )
        for k, (human, reply) in enumerate(zip(turns[::2], turns[1::2], strict=True))
    )
    told = any(sides.gives_away(text) for turn in turns for text in turn)
    held = script.held or sides.has_held_pair(value.english for value in words.values()) or told
    return Dialogue(exchanges), held


def sample(
    rng: np.random.Generator, language: str, *, held_out: bool = False, n_turns: tuple[int, ...] = ()
) -> Dialogue:
    """Draw one dialogue of the training or of the held-out side.

    Args:
        rng: Source of chance; the same state draws the same dialogue.
        language: "en" or "zh".
        held_out: Which side.
        n_turns: Numbers of exchanges it may have; none means any.

    Raises:
        RuntimeError: If the table has no such dialogue.
    """
    table = [script for script in scripts() if not n_turns or len(script.turns) // 2 in n_turns]
    return sides.draw_on_side(
        lambda: play(table[rng.integers(len(table))], rng, language), held_out, f"a dialogue of {n_turns} turns"
    )


def as_example(talk: Dialogue, said: Sequence[Waveform | str] = (), *, id: str, speak: bool = False) -> Example:
    """Make an example of the chat task: earlier turns are history, the last one is asked.

    Args:
        talk: The dialogue; `Dialogue((exchange,))` makes one of a single exchange.
        said: What the person says in each turn, as recordings or typed; none types all of it.
        id: Name of the example.
        speak: Whether the reply is spoken.

    Raises:
        ValueError: If there are not as many recordings as turns.
    """
    said = tuple(said) or tuple(exchange.human for exchange in talk.exchanges)
    last = talk.exchanges[-1]
    pairs = list(zip(said, (exchange.reply for exchange in talk.exchanges), strict=True))
    return Chat.example(
        said[-1],
        last.reply,
        id=id,
        language=last.language,
        key=last.key,
        others=last.others,
        register=last.register,
        history=pairs[:-1],
        speak=speak,
        topic=last.topic,
        template=last.template,
        emotion=last.manner,
    )


# --- replies that depend on the voice ---------------------------------------------------------------


@cache
def feelings() -> tuple[Feeling, ...]:
    """All sentences with their replies, in file order.

    Raises:
        ValueError: If a sentence has not one reply for each emotion.
    """
    found: list[Feeling] = []
    for line in (_HERE / "feelings.tsv").read_text(encoding="utf-8").splitlines():
        match [cell.strip() for cell in line.split("\t")]:
            case ["say", use, english, chinese]:
                found.append(Feeling(len(found), use == "held", (english, chinese), {}))
            case [emotion, english, chinese] if found and emotion in EMOTIONS:
                found[-1].replies[emotion] = (english, chinese)
            case [first, *_] if first and not first.startswith("#"):
                raise ValueError(f"Could not read this line of feelings.tsv: {line!r}; its first line shows the form.")
    for feeling in found:
        if set(feeling.replies) != set(EMOTIONS):
            missing = ", ".join(sorted(set(EMOTIONS) - set(feeling.replies)))
            raise ValueError(f"Could not read feelings.tsv: {feeling.said[0]!r} has no reply for {missing}; add one.")
    return tuple(found)


def sample_feeling(rng: np.random.Generator, language: str, *, emotion: str = "", held_out: bool = False) -> Exchange:
    """Draw a sentence said with an emotion, and the reply that fits.

    Args:
        rng: Source of chance.
        language: "en" or "zh".
        emotion: One of `EMOTIONS`; empty draws one.
        held_out: Which side; a sentence is on the same one whatever the emotion.

    Raises:
        ValueError: If the emotion is none of the four.
    """
    emotion = emotion or EMOTIONS[rng.integers(len(EMOTIONS))]
    if emotion not in EMOTIONS:
        raise ValueError(f"Could not draw a reply: found the emotion {emotion!r}, expected one of {EMOTIONS}.")
    feeling, words = sides.draw_on_side(lambda: _draw_feeling(rng), held_out, "a sentence with a feeling")
    return tell(feeling, words, emotion, language, rng)


def _draw_feeling(rng: np.random.Generator) -> tuple[tuple[Feeling, dict], bool]:
    feeling = feelings()[rng.integers(len(feelings()))]
    words = sides.draw(sides.fields(*feeling.said), rng)
    texts = [text for pattern in (feeling.said, *feeling.replies.values()) for text in sides.fill(pattern, words)]
    told = any(map(sides.gives_away, texts))
    held = feeling.held or sides.has_held_pair(value.english for value in words.values()) or told
    return (feeling, words), held


def tell(feeling: Feeling, words: dict, emotion: str, language: str, rng: np.random.Generator) -> Exchange:
    """Say a sentence with an emotion; the reply opens in its tone and goes on to the matter."""
    side = LANGUAGES.index(language)
    opens, plans = (register_lines(emotion, kind, language) for kind in ("open", "plan"))
    rest = sides.fill(feeling.replies[emotion], words)[side]
    return Exchange(
        human=sides.fill(feeling.said, words)[side],
        reply=opens[rng.integers(len(opens))] + _OPEN[language] + rest,
        language=language,
        topic="feeling",
        key="",
        why=plans[rng.integers(len(plans))],
        manner=emotion,
        register=emotion,
        template=f"feelings:{feeling.index}",
        values=tuple((name, value.english) for name, value in words.items()),
    )
