"""The rows of the model card beyond recognition: translation, paralinguistics, choices, chat, thinking, tools.

Each function reads test corpora (`model.training.corpus`, `task_corpus`, `talk_corpus`) from a folder, asks the model
with real sound, and returns metrics with intervals and with what an answer without listening would reach.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from analysis.evaluation.answers import Answer, answer_all
from analysis.evaluation.report import Metric, mean_metric
from analysis.evaluation.speech import tts
from model.audio import Waveform, load_waveform
from model.checkpoint import LoadedModel
from model.tasks import paralinguistics as properties
from model.tasks.audio_questions import AudioQuestions
from model.tasks.base import Example
from model.tasks.chat import Chat
from model.tasks.paralinguistics import Paralinguistics
from model.tasks.thinking import Thinking, false_claims, thought_units
from model.tasks.tool_calls import Outcome, Rates, ToolUse, outcome, rates
from model.tasks.translation import Translation, corpus_bleu
from model.training import talk_examples, task_questions
from model.training.corpus import Corpus, Row
from model.training.task_questions import AudioQuestion, QuestionBank

LANGUAGES = {"en": "English", "zh": "Mandarin"}
SEED = 5


def _sound(corpus: Corpus, row: Row) -> Waveform:
    return load_waveform(corpus.sound_path(row))


def _ordered(corpus: Corpus, limit: int | None) -> list[Row]:
    return sorted(corpus.rows, key=lambda row: row.clip.id)[:limit]


# --- translation --------------------------------------------------------------------------------------------------


def translation(loaded: LoadedModel, folder: Path, limit: int | None = None) -> list[Metric]:
    """BLEU of speech translated to text, both directions."""
    metrics = []
    for source, target in (("en", "zh"), ("zh", "en")):
        corpus = Corpus(folder / f"test_voices_{source}")
        examples = [
            Translation.example(_sound(corpus, row), str(text), id=row.clip.id, target=target)
            for row in _ordered(corpus, limit)
            if (text := row.clip.labels.get("translation"))
        ]
        if examples:
            answers = answer_all(loaded, Translation, examples, name=f"translation {source}-{target}")
            metrics.append(_bleu_metric(f"S2TT {source} to {target}, BLEU: unseen sentences, unseen voices", answers))
    return metrics


def _bleu_metric(name: str, answers: Sequence[Answer]) -> Metric:
    examples = [answer.example for answer in answers]
    found, (low, high) = corpus_bleu([answer.hypothesis for answer in answers], examples)
    constant = Counter(example.reference for example in examples).most_common(1)[0][0]
    base, _ = corpus_bleu([constant] * len(examples), examples)
    return Metric(name, found.score, min(low, found.score), max(high, found.score), len(answers), unit="BLEU",
                  bar=">= 80", baseline=f"{base.score:.1f} (constant answer)")  # fmt: skip


# --- questions about a sound --------------------------------------------------------------------------------------

_SOUND_SETS = ("test_voices_en", "test_voices_zh", "test_people", "test_sounds", "test_tunes")


def _asked(
    folder: Path, limit: int | None, ask: Callable[[Row, np.random.Generator, QuestionBank], list[AudioQuestion]]
) -> list[Example]:
    """Examples of all questions that the test clips can answer."""
    bank_corpus = Corpus(folder / "test_voices_questions")
    bank, rng, examples = QuestionBank(bank_corpus.rows), np.random.default_rng(SEED), []
    for name in _SOUND_SETS:
        corpus = Corpus(folder / name)
        homes = {row.clip.id: (c, row) for c in (corpus, bank_corpus) for row in c.rows}
        for row in _ordered(corpus, limit):
            for question in ask(row, rng, bank):
                examples.append(task_questions.example(question, lambda id, homes=homes: _sound(*homes[id])))
    return examples


def paralinguistics(loaded: LoadedModel, folder: Path, limit: int | None = None) -> list[Metric]:
    """The eleven dimensions by StepEval's rules, half of the questions spoken, and their mean."""

    def ask(row: Row, rng: np.random.Generator, bank: QuestionBank) -> list[AudioQuestion]:
        return task_questions.paralinguistic_questions(row, rng, held_out=True, bank=bank)

    examples = _asked(folder, limit, ask)
    if not examples:
        return []
    answers = answer_all(loaded, Paralinguistics, examples)
    by_dimension = {d: [a for a in answers if a.example.metadata["dimension"] == d] for d in properties.DIMENSIONS}
    by_dimension = {d: found for d, found in by_dimension.items() if found}
    bases = {d: _constant(d, found) for d, found in by_dimension.items()}
    values = [float(a.score.value or 0) for found in by_dimension.values() for a in found]
    weights = [1 / len(found) for found in by_dimension.values() for _ in found]
    mean = mean_metric(
        f"Paralinguistics, mean over {len(by_dimension)} dimensions (StepEval rules)", values, weights,
        bar=">= 83.1", baseline=f"{100 * np.mean(list(bases.values())):.1f} % (constant answers)",
    )  # fmt: skip
    parts = [
        mean_metric(f"Paralinguistics: {d}", [float(a.score.value or 0) for a in found],
                     baseline=f"{100 * bases[d]:.1f} % (constant answer)")
        for d, found in by_dimension.items()
    ]  # fmt: skip
    return [mean, *parts]


def _constant(dimension: str, answers: Sequence[Answer]) -> float:
    return properties.constant_baseline(dimension, [a.example.metadata["label"] for a in answers]).accuracy


def choices(loaded: LoadedModel, folder: Path, limit: int | None = None) -> list[Metric]:
    """Multiple choice in MMAU's format about speech, sound and simple music."""
    examples = _asked(folder, limit, lambda row, rng, _: task_questions.choice_questions(row, rng, held_out=True))
    if not examples:
        return []
    answers = answer_all(loaded, AudioQuestions, examples)
    chance = np.mean([1 / len(e.metadata["options"]) for e in examples])
    return [
        mean_metric("Multiple choice about a recording (MMAU's format), right",
                     [float(a.score.value or 0) for a in answers], baseline=f"{100 * chance:.1f} % (chance)")
    ]  # fmt: skip


# --- talk ---------------------------------------------------------------------------------------------------------


def _talk(folder: Path, limit: int | None, kinds: Sequence[str]) -> dict[str, list[tuple[Corpus, Row]]]:
    """Test rows of talk of these kinds, by language."""
    found = {}
    for language in LANGUAGES:
        corpus = Corpus(folder / f"test_voices_{language}")
        rows = [row for row in sorted(corpus.rows, key=lambda r: r.clip.id) if row.clip.labels["kind"] in kinds]
        if rows:
            found[language] = [(corpus, row) for row in rows[:limit]]
    return found


def chat(loaded: LoadedModel, folder: Path, limit: int | None = None) -> list[Metric]:
    """Right answers to spoken questions, and replies in the tone that the voice asks for."""
    sets = (
        (("facts", "dialogue"), "Chat, right answers to unseen spoken questions", ">= 95 %", "0 % (constant answer)"),
        (("feelings",), "Chat, right tone for how it was said", ">= 90 %", "25 % (constant tone)"),
    )
    metrics = []
    for kinds, name, bar, base in sets:
        for language, rows in _talk(folder, limit, kinds).items():
            examples = [talk_examples.chat_example(row, _sound(c, row)) for c, row in rows]
            answers = answer_all(loaded, Chat, examples, name=f"{'/'.join(kinds)} {language}")
            values = [float(a.score.value or 0) for a in answers]
            metrics.append(mean_metric(f"{name}, {LANGUAGES[language]}", values, bar=bar, baseline=base))
    return metrics


def thinking(loaded: LoadedModel, folder: Path, limit: int | None = None) -> list[Metric]:
    """The same questions with a thought first: right answers, grounded thoughts, length."""
    metrics = []
    for language, rows in _talk(folder, limit, ("facts", "dialogue", "feelings")).items():
        examples = [talk_examples.thinking_example(row, _sound(c, row)) for c, row in rows]
        answers = answer_all(loaded, Thinking, examples, name=f"thinking {language}", raw=True)
        grounded = [float(not false_claims(a.turn.thought, a.example)) for a in answers]
        units = np.mean([thought_units(a.turn.thought) for a in answers])
        title = f"Thinking first, {LANGUAGES[language]}"
        metrics += [
            mean_metric(f"{title}: right answers", [float(a.score.value or 0) for a in answers],
                         note=f"mean thought {units:.1f} {'characters' if language == 'zh' else 'words'}"),
            mean_metric(f"{title}: thoughts that claim nothing false about the sound", grounded),
        ]  # fmt: skip
    return metrics


def tools(loaded: LoadedModel, folder: Path, limit: int | None = None) -> list[Metric]:
    """Whether a call is made when one is needed, of the right tool, with the right arguments."""
    rng, examples = np.random.default_rng(SEED), []
    for rows in _talk(folder, limit, ("tools",)).values():
        examples += [talk_examples.tool_example(row, _sound(c, row), rng)[0] for c, row in rows]
    if not examples:
        return []
    answers = answer_all(loaded, ToolUse, examples, raw=True)
    outcomes = [outcome(a.hypothesis, a.example) for a in answers]
    bars = {"precision": ">= 95 %", "recall": ">= 95 %", "type": ">= 98 %", "parameters": ">= 98 %"}
    return [metric for part, bar in bars.items() if (metric := _rate_metric(part, outcomes, bar))]


def _rate_metric(part: str, outcomes: Sequence[Outcome], bar: str, n_resamples: int = 1000) -> Metric | None:
    """One of the four rates with an interval over resampled requests."""
    found = getattr(rates(outcomes), part)
    if found is None:
        return None
    rng, drawn = np.random.default_rng(0), []
    for _ in range(n_resamples):
        again: Rates = rates([outcomes[i] for i in rng.integers(len(outcomes), size=len(outcomes))])
        if (value := getattr(again, part)) is not None:
            drawn.append(value)
    low, high = np.quantile(drawn, [0.025, 0.975])
    always = 100 * np.mean([bool(o.wanted) for o in outcomes])
    base = f"{always:.1f} % (always calling)" if part == "precision" else ""
    return Metric(f"Tool calls, {part}", 100 * found, 100 * min(low, found), 100 * max(high, found), len(outcomes),
                  of="requests", bar=bar, baseline=base, note="one or two tools on offer")  # fmt: skip


EVALUATIONS = {
    "translation": (translation, "runs/corpus"),
    "paralinguistics": (paralinguistics, "runs/task_corpus"),
    "choices": (choices, "runs/task_corpus"),
    "chat": (chat, "runs/talk_corpus"),
    "thinking": (thinking, "runs/talk_corpus"),
    "tools": (tools, "runs/talk_corpus"),
    "tts": (tts, "runs/voice"),
}
"""Name -> (how it is measured, where its test corpora usually lie)."""
