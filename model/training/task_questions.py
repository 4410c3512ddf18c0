"""What is asked about a made clip: the questions of a row of `task_corpus`, with their answers.

    Row + labels  -->  AudioQuestion(dimension, typed or spoken question, answer, label)      eleven dimensions
                  -->  AudioQuestion(question with shuffled options, answer, right)           multiple choice

A question is only asked where its label holds for the finished clip. Spoken questions come from a bank of clips
(`plan_questions`), by the clip's own voice when the bank has it: as in StepEval, who asks is who was heard.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from model.audio import Waveform
from model.tasks import audio_questions, paralinguistics
from model.tasks.audio_questions import AudioQuestions, Choices
from model.tasks.base import Example
from model.tasks.paralinguistics import Paralinguistics
from model.training.corpus import Row
from model.training.world import grammar, tunes

SPOKEN_SHARE, FIRST_SHARE = 0.5, 0.3
"""Share of spoken questions, and of those that are heard before the clip."""
_FEW_WORDS = 4
_CHOICES = {
    "gender": (("Who is speaking?", "What is the gender of the speaker?"), "Which kind of person speaks?"),
    "age": (("How old does the speaker sound?", "What is the age of the speaker?"), "Who do you think is talking?"),
    "emotion": (("What emotion does the speaker express?", "How does the speaker feel?"), "What is the mood?"),
    "style": (("How does the speaker talk?", "What is the speaking style?"), "Which style of speaking is used?"),
    "speed": (("How fast does the speaker talk?", "What is the speed of the speech?"), "How quick is the speech?"),
    "pitch": (("How high is the voice?", "What is the pitch of the voice?"), "Which pitch does the voice have?"),
    "scenario": (("Where was this recorded?", "Where does this take place?"), "What kind of place do you hear?"),
    "event": (("Which sound is in the recording?", "What makes the sound?"), "What is the source of the sound?"),
    "vocal": (("Which human sound do you hear?", "What does the person do besides talking?"), "What noise is made?"),
    "instrument": (("Which instrument is playing?", "What is the instrument?"), "What plays this tune?"),
    "direction": (("Does the melody rise or fall?", "Where does the melody go?"), "How does the melody move?"),
    "tempo": (("What is the tempo of the music?", "How fast is the music?"), "Is the music slow or fast?"),
    "notes": (("How many notes do you hear?", "How many notes are played?"), "What is the number of notes?"),
    "order": (("What is heard first?", "Which comes first?"), "What happens at the beginning?"),
    "word": (("Which word does the speaker say?", "Which of these words do you hear?"), "Which word is spoken?"),
}
"""What is asked with options -> how in training (two ways), and how in tests only."""
_MUSIC = {
    "instrument": dict(zip(tunes.INSTRUMENTS, ("a piano", "an organ", "a flute", "a bell", "a drum"), strict=True)),
    "direction": {"rising": "it rises", "falling": "it falls", "level": "it stays level"},
    "tempo": {"slow": "slow", "fast": "fast"},
    "notes": {"2": "two", "3": "three", "4": "four", "5": "five"},
}


@dataclass(frozen=True)
class AudioQuestion:
    """One question about one clip."""

    id: str
    task: str
    """Name of the task."""
    clip: str
    """Id of the clip."""
    dimension: str
    language: str
    text: str
    """The question as written."""
    answer: str
    label: str
    spoken: str = ""
    """Id of the clip that speaks the question; empty when it is typed."""
    question_first: bool = False
    choices: Choices | None = None


class QuestionBank:
    """The spoken questions of one side.

    Args:
        rows: Rows of a corpus planned by `plan_questions`.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            self._rows.setdefault((str(row.clip.labels["dimension"]), row.clip.language), []).append(row)

    def draw(self, dimension: str, language: str, voice: str, rng: np.random.Generator) -> Row | None:
        """A question about a dimension, by this voice if it asks at all; None when nobody does."""
        rows = self._rows.get((dimension, language), [])
        rows = [row for row in rows if row.clip.voice == voice] or rows
        return rows[int(rng.integers(len(rows)))] if rows else None


def paralinguistic_questions(
    row: Row, rng: np.random.Generator, *, held_out: bool, bank: QuestionBank | None = None
) -> list[AudioQuestion]:
    """Every dimension that a clip has a label for, asked once, in the clip's language or (for sounds) in either."""
    language = row.clip.language or ("en", "zh")[int(rng.integers(2))]
    made = []
    for dimension in paralinguistics.DIMENSIONS:
        label = row.clip.labels.get(dimension)
        if label not in paralinguistics.labels(dimension):
            continue
        texts = paralinguistics.questions(dimension, language, held_out=held_out)
        text = texts[int(rng.integers(len(texts)))]
        spoken = bank.draw(dimension, language, row.clip.voice, rng) if bank and rng.random() < SPOKEN_SHARE else None
        made.append(
            AudioQuestion(
                f"{row.clip.id}-{dimension}", Paralinguistics.name, row.clip.id, dimension, language,
                text=spoken.clip.text if spoken else text,
                answer=paralinguistics.reply(dimension, str(label), language),
                label=str(label),
                spoken=spoken.clip.id if spoken else "",
                question_first=bool(spoken) and rng.random() < FIRST_SHARE,
            )
        )  # fmt: skip
    return made


def choice_questions(row: Row, rng: np.random.Generator, *, held_out: bool) -> list[AudioQuestion]:
    """Every question with options that a clip can answer, in English as MMAU's, options in a drawn order."""
    made = []
    for kind, (answer, others) in _answers(row, rng).items():
        if not others:
            continue
        train, held = _CHOICES[kind]
        text = held if held_out else train[int(rng.integers(len(train)))]
        choices = Choices.shuffled(answer, others, rng)
        made.append(
            AudioQuestion(
                f"{row.clip.id}-choice-{kind}", AudioQuestions.name, row.clip.id, kind, "en",
                text=audio_questions.ask(text, choices), answer=audio_questions.respond(choices), label=answer,
                choices=choices,
            )
        )  # fmt: skip
    return made


def _answers(row: Row, rng: np.random.Generator) -> dict[str, tuple[str, list[str]]]:
    """What can be asked about a clip: kind -> right answer, wrong answers."""
    labels, made = row.clip.labels, {}
    for kind in ("gender", "age", "emotion", "style", "speed", "pitch", "scenario", "event", "vocal"):
        known = paralinguistics.labels(kind)
        if labels.get(kind) in known and labels[kind] != "music":
            right = known[str(labels[kind])]
            # Labels that pass for the same are no wrong answers, and a step beside the right one would be a trap.
            others = [x.english for x in known.values() if not paralinguistics.same(kind, x.name, right.name)]
            made[kind] = (right.english, others)
    for kind, words in _MUSIC.items():
        if labels.get(kind) in words:
            right_word = words[str(labels[kind])]
            made[kind] = (right_word, [word for word in words.values() if word != right_word])
    sound = labels.get("event") or labels.get("vocal")
    if sound and "speech_start_s" in labels:
        made |= _order(str(sound), labels)
    if row.clip.language == "en" and (words_heard := _words(row.clip.text, rng)):
        made["word"] = words_heard
    return made


def _order(sound: str, labels: dict) -> dict[str, tuple[str, list[str]]]:
    """What is heard first, where one of both ends before the other begins."""
    kind = "event" if "event" in labels else "vocal"
    noise, voice = paralinguistics.labels(kind)[sound].english, "the voice"
    if labels["event_end_s"] <= labels["speech_start_s"]:
        return {"order": (noise, [voice])}
    return {"order": (voice, [noise])} if labels["speech_end_s"] <= labels["event_start_s"] else {}


def _words(text: str, rng: np.random.Generator) -> tuple[str, list[str]] | None:
    """One longer word of a sentence, and words of the world that it does not hold."""
    said = {word.strip(".,?!'").lower() for word in text.split()}
    world = sorted({v.english.lower() for values in grammar.slots().values() for v in values if v.english.isalpha()})
    inside = [word for word in world if word in said and len(word) >= _FEW_WORDS]
    if not inside:
        return None
    other = [w for w in world if len(w) >= _FEW_WORDS and not any(w[:4] == s[:4] for s in said)]
    wrong = [other[i] for i in rng.choice(len(other), min(3, len(other)), replace=False)]
    return inside[int(rng.integers(len(inside)))], wrong


def example(question: AudioQuestion, sound: Callable[[str], Waveform], *, speak: bool = False) -> Example:
    """Turn a question into what a task scores.

    Args:
        question: The question.
        sound: Reads a clip by its id.
        speak: Whether the answer shall be spoken; only questions without options.
    """
    waveform = sound(question.clip)
    facts = {"dimension": question.dimension, "label": question.label, "language": question.language}
    if question.choices is not None:
        conversation = AudioQuestions.conversation(waveform, name=question.clip, question=question.text)
        facts |= {"options": question.choices.options, "right": question.choices.right}
        return Example(question.id, conversation, question.answer, facts)
    asked = sound(question.spoken) if question.spoken else question.text
    conversation = Paralinguistics.conversation(
        waveform, name=question.clip, question=asked, speak=speak, question_first=question.question_first
    )
    return Example(question.id, conversation, question.answer, facts)
