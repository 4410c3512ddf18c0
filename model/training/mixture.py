"""What nano is trained on in the main stage: one table of tasks, and where each gets its items.

    task            sound from            what it learns to reply
    asr             corpus, talk          what was said
    translation     corpus                the same in the other language
    typed           (grammar, endless)    the same for typed text: cheap, and never twice the same sentence
    paralinguistics task corpus           one of eleven properties, asked in writing or by a second clip
    choices         task corpus           multiple choice in MMAU's format
    chat            talk corpus           an answer, in the tone that fits; typed at times
    thinking        talk corpus           what was heard, what follows, then the answer
    tools           talk corpus           a call, or none; then the answer from the result
    tts             (voice corpus)        a text read aloud: one text token, four codes, and so on

An item is a conversation that ends in an open turn, and what shall follow. Its recordings are `Stored`: as long as the
sound was, but silent, with the row whose mel the encoder gets.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.audio import INPUT_SAMPLE_RATE_HZ, Waveform
from model.chat import THINK_SUFFIX
from model.messages import Audio, AudioCodes, Conversation, Part, Text
from model.tasks.asr import ASR
from model.tasks.tool_calls import with_call, with_result
from model.tasks.translation import Translation
from model.tasks.tts import TTS
from model.training import talk_corpus, talk_examples, task_questions
from model.training.corpus import Corpus, Row
from model.training.world import grammar, thoughts

WEIGHTS = {
    "asr": 0.18, "translation": 0.14, "typed": 0.13, "paralinguistics": 0.15, "choices": 0.03,
    "chat": 0.12, "thinking": 0.05, "tools": 0.06, "tts": 0.14,
}  # fmt: skip
"""Share of the items of each task."""
TYPED_SHARE = 0.15
"""Share of the talk that is typed, not spoken."""
RESULT_SHARE = 0.4
"""Share of the tool items that begin where the result is there."""


@dataclass(frozen=True, eq=False)
class Stored(Waveform):
    """A recording whose log-mel lies in a corpus; its samples are zeros, for the length only."""

    corpus: Corpus
    row: Row

    @classmethod
    def of(cls, corpus: Corpus, row: Row) -> "Stored":
        """The recording of a row."""
        return cls(np.zeros(row.samples, np.float32), INPUT_SAMPLE_RATE_HZ, corpus, row)


@dataclass(frozen=True, eq=False)
class Item:
    """One thing to learn."""

    task: str
    conversation: Conversation
    """Ends in an open turn."""
    reply: tuple[Part, ...]
    """What the model shall write into it."""

    @property
    def heard(self) -> list[Stored]:
        """The recordings in reading order."""
        parts = (part for message in self.conversation for part in message.parts)
        return [part.waveform for part in parts if isinstance(part, Audio) and isinstance(part.waveform, Stored)]


@dataclass(frozen=True)
class Reading:
    """A text and the codes of somebody who reads it."""

    text: str
    codes: tuple[int, ...]


Maker = Callable[[Any, np.random.Generator], Item | None]


class Source:
    """Rows of one task in an order that comes round, and how an item is made of one."""

    def __init__(self, rows: Sequence[Any], make: Maker, rng: np.random.Generator):
        self.rows, self.make, self.rng = list(rows), make, rng
        self._left: list[int] = []

    def draw(self) -> Item:
        """The next item; rows that give none are passed over."""
        while True:
            if not self._left:
                self._left = self.rng.permutation(len(self.rows)).tolist()
            if item := self.make(self.rows[self._left.pop()], self.rng):
                return item


class Endless:
    """Items that are drawn anew each time."""

    rows = ("endless",)

    def __init__(self, make: Callable[[np.random.Generator], Item], rng: np.random.Generator):
        self.make, self.rng = make, rng

    def draw(self) -> Item:
        """A new item."""
        return self.make(self.rng)


class Mixture:
    """All tasks over the corpora that are there.

    Args:
        sentences: Corpus of sentences with `translation` labels (`model.training.corpus`).
        sounds: Corpus of labelled clips (`task_corpus`), and its spoken questions.
        talks: Corpus of talk (`talk_corpus`).
        readings: Texts with codes, those to train on and those to watch.
        watched: Use the first shards, which are kept to watch a run, instead of the others.
    """

    def __init__(
        self,
        sentences: Corpus,
        sounds: Corpus | None,
        questions: Corpus | None,
        talks: Corpus | None,
        readings: tuple[Sequence[Reading], Sequence[Reading]] = ((), ()),
        *,
        rng: np.random.Generator,
        watched: bool = False,
        weights: Mapping[str, float] = WEIGHTS,
    ):
        from model.training.asr import speaks

        self.rng = rng
        part = {c: c.split()[int(watched)] for c in (sentences, sounds, talks) if c is not None}
        spoken = [row for row in part[sentences] if speaks(row)]
        made: dict[str, Source | Endless] = {
            "typed": Endless(typed_translation, rng),
            "asr": Source(spoken, lambda row, _: transcription(sentences, row), rng),
            "translation": Source(
                [row for row in spoken if "translation" in row.clip.labels],
                lambda row, _: translation(sentences, row),
                rng,
            ),
        }
        if sounds is not None and questions is not None:
            bank = task_questions.QuestionBank(questions.rows)
            stored = _reader(sounds, questions)
            for task, ask in (("paralinguistics", _property(bank)), ("choices", _choice)):
                made[task] = Source(part[sounds], _question_maker(task, ask, stored), rng)
        if talks is not None:
            turns = [row for row in part[talks] if row.clip.labels["kind"] != "tools"]
            requests = [row for row in part[talks] if row.clip.labels["kind"] == "tools"]
            made["chat"] = Source(turns, lambda row, rng: chat(talks, row, rng), rng)
            made["thinking"] = Source(turns, lambda row, rng: thinking(talks, row, rng), rng)
            made["tools"] = Source(requests, lambda row, rng: tools(talks, row, rng), rng)
        made["tts"] = Source(readings[int(watched)], lambda reading, _: read_aloud(reading), rng)
        self.sources = {task: source for task, source in made.items() if source.rows and weights.get(task)}
        shares = np.asarray([weights[task] for task in self.sources])
        self.shares = shares / shares.sum()

    def items(self, count: int) -> Iterator[Item]:
        """Draw `count` items by their shares."""
        names = list(self.sources)
        for k in self.rng.choice(len(names), count, p=self.shares):
            yield self.sources[names[k]].draw()


def transcription(corpus: Corpus, row: Row) -> Item:
    """Write down what is said."""
    from model.training.asr import transcript

    return Item("asr", ASR.conversation(Stored.of(corpus, row)), (Text(transcript(row)),))


def translation(corpus: Corpus, row: Row) -> Item:
    """Say it in the other language."""
    target = "zh" if row.clip.language == "en" else "en"
    asked = Translation.conversation(Stored.of(corpus, row), target=target)
    return Item("translation", asked, (Text(str(row.clip.labels["translation"])),))


def typed_translation(rng: np.random.Generator) -> Item:
    """Say a typed sentence in the other language."""
    sentence, target = grammar.sample(rng), ("en", "zh")[int(rng.integers(2))]
    source = sentence.text("zh" if target == "en" else "en")
    return Item("typed", Translation.conversation(source, target=target), (Text(sentence.text(target)),))


def read_aloud(reading: Reading) -> Item:
    """Speak a text."""
    return Item("tts", TTS.conversation(reading.text), (AudioCodes(reading.codes, reading.text),))


def _reader(*corpora: Corpus) -> Callable[[str], Stored]:
    """Find a recording by the id of its clip."""
    rows = {row.clip.id: (corpus, row) for corpus in corpora for row in corpus.rows}
    return lambda name: Stored.of(*rows[name])


def _property(bank: task_questions.QuestionBank):
    return lambda row, rng: task_questions.paralinguistic_questions(row, rng, held_out=False, bank=bank)


def _choice(row: Row, rng: np.random.Generator):
    return task_questions.choice_questions(row, rng, held_out=False)


def _question_maker(task: str, ask, stored: Callable[[str], Stored]) -> Maker:
    def make(row: Row, rng: np.random.Generator) -> Item | None:
        asked = ask(row, rng)
        if not asked:
            return None
        example = task_questions.example(asked[int(rng.integers(len(asked)))], stored)
        return Item(task, example.conversation, (Text(example.reference),))

    return make


def _sound(corpus: Corpus, row: Row, rng: np.random.Generator) -> Stored | None:
    """The recording; None where the talk is typed, which what depends on the voice never is."""
    felt = row.clip.labels["kind"] == "feelings"
    return Stored.of(corpus, row) if felt or rng.random() >= TYPED_SHARE else None


def chat(corpus: Corpus, row: Row, rng: np.random.Generator) -> Item:
    """Reply to the last turn of a dialogue."""
    example = talk_examples.chat_example(row, _sound(corpus, row, rng))
    return Item("chat", example.conversation, (Text(example.reference),))


def thinking(corpus: Corpus, row: Row, rng: np.random.Generator) -> Item:
    """Think first: what is heard, what follows; then reply."""
    example = talk_examples.thinking_example(row, _sound(corpus, row, rng))
    talk = talk_corpus.from_plan(row.clip.plan["talk"])
    trace = thoughts.think(talk.exchanges[-1], example.metadata["sound"], rng)
    return Item("thinking", example.conversation, (Text(f"{trace.thought}\n{THINK_SUFFIX}"), Text(trace.reply)))


def tools(corpus: Corpus, row: Row, rng: np.random.Generator) -> Item:
    """Decide on a tool; or, where the call was made, answer from its result."""
    example, script = talk_examples.tool_example(row, _sound(corpus, row, rng), rng)
    if script.call is None:
        return Item("tools", example.conversation, (Text(script.reply),))
    if rng.random() >= RESULT_SHARE:
        return Item("tools", example.conversation, (Text(script.lead), script.call))
    told = with_result(with_call(example.conversation, script.lead, script.call), script.result)
    return Item("tools", told, (Text(script.reply),))
