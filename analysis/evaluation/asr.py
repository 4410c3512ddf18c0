"""Transcribe test corpora and count the errors: WER, CER, share of right answers, and how well attention points.

Every clip goes the way a visitor's recording goes: file -> `load_waveform` -> processor -> cached greedy decoding.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from analysis.attention import Head, WordTime, pointing_error
from analysis.capture import capture_trace
from analysis.evaluation.report import Metric, mean_metric
from analysis.statistic import Statistic
from model.audio import load_waveform
from model.checkpoint import LoadedModel
from model.events import Turn
from model.generation import generate_batch
from model.tasks.asr import ASR
from model.tasks.base import Example, Score
from model.training.corpus import Corpus, sentence_case
from model.training.corpus import Row as Clip

BATCH = 8


@dataclass(frozen=True)
class Row:
    """One transcribed clip."""

    clip: Clip
    example: Example
    turn: Turn
    score: Score

    @property
    def right(self) -> bool:
        """Whether nothing was misheard, missed or added."""
        return self.score.value == 0


def example_of(corpus: Corpus, clip: Clip) -> Example:
    """The question and reference of one test clip."""
    conversation = ASR.conversation(load_waveform(corpus.sound_path(clip)), name=clip.clip.id)
    text = clip.clip.text if clip.clip.voice else sentence_case(clip.clip.text)
    return Example(clip.clip.id, conversation, text, {"language": clip.clip.language})


def transcribe(loaded: LoadedModel, corpus: Corpus, *, limit: int | None = None) -> list[Row]:
    """Transcribe the clips of a test corpus, shortest first, and score them."""
    clips = sorted(corpus.rows, key=lambda r: r.clip.id)[:limit]
    rows = []
    with tqdm(total=len(clips), desc=corpus.folder.name, unit="clip") as bar:
        for batch in _batches(sorted(clips, key=lambda r: r.frames)):
            examples = [example_of(corpus, clip) for clip in batch]
            turns = generate_batch(loaded.model, loaded.processor, [e.conversation for e in examples], ASR.options)
            for clip, example, turn in zip(batch, examples, turns, strict=True):
                rows.append(Row(clip, example, turn, ASR.score(turn.text, example)))
            bar.update(len(batch))
    return rows


def _batches(clips: Sequence[Clip]) -> Iterator[Sequence[Clip]]:
    for start in range(0, len(clips), BATCH):
        yield clips[start : start + BATCH]


def error_metric(name: str, rows: Sequence[Row], **texts: str) -> Metric:
    """WER or CER over all reference words or characters, in percent; the interval resamples utterances."""
    return mean_metric(name, [row.score.value for row in rows], [row.score.weight for row in rows], **texts)


def right_metric(name: str, rows: Sequence[Row], **texts: str) -> Metric:
    """Share of utterances without any error, in percent."""
    return mean_metric(name, [float(row.right) for row in rows], **texts)


def most_frequent(rows: Sequence[Row]) -> str:
    """Baseline of the best constant answer: the share of the most frequent reference, in percent."""
    references = [row.example.reference for row in rows]
    return f"{100 * max(map(references.count, set(references))) / len(references):.1f} % (constant answer)"


def pointing(loaded: LoadedModel, rows: Sequence[Row], taught: Collection[Head]) -> dict[str, Statistic]:
    """Median distance between a word's true centre and its attention-weighted time (head chosen on other clips).

    Args:
        loaded: The model that wrote the rows.
        rows: Transcribed clips with word times; others are left out.
        taught: Heads that training told where to look; the second measure may not choose them.

    Returns:
        "best head" and "best untaught head".
    """
    known = [row for row in rows if row.clip.words and row.turn.text.strip()]
    progress = tqdm(known, desc="attention", unit="clip")
    traces = [capture_trace(loaded, row.example.conversation, row.turn.ids) for row in progress]
    truth = [[WordTime(*word) for word in row.clip.words] for row in known]
    return {
        "best head": pointing_error(traces, truth, centre="median"),
        "best untaught head": pointing_error(traces, truth, centre="median", exclude=taught),
    }


def pointing_metric(name: str, found: Statistic, **texts: str) -> Metric:
    """The pointing error in milliseconds."""
    value = float(found.values)
    low, high = (float(bound) for bound in (found.low, found.high))
    return Metric(
        name, 1e3 * value, 1e3 * min(low, value), 1e3 * max(high, value), found.n, of="words", unit="ms", **texts
    )
