"""From attention rows to times: where in the sound each token and word looks, and how well that points.

    rows [layer, head, query, frame] --one head--> shares of the sound [query, frame] --group--> words [word, frame]
        --attention-weighted time--> seconds --against true word times--> median |dt|

Only a Trace is read; no model. Attention shows where a head looks, which is not proof of what the answer depends on:
that takes interventions.

Source: attention heads as aligners, as in the word timestamps of Whisper (Radford et al., 2022); the listening score is
our own and is defined where it is computed.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from analysis.statistic import Axis, Statistic
from analysis.trace import TOKEN_KINDS, Trace
from model.errors import TraceError

N_RESAMPLES = 1000
"""Bootstrap samples behind an interval."""
Centre = Literal["mean", "median"]


class Head(NamedTuple):
    """One attention head, or the mean over the heads of a layer."""

    layer: int
    """Decoder layer, counted from 0."""
    head: int | None = None
    """Query head, counted from 0; None is the mean over all heads."""


class Word(NamedTuple):
    """A word of the reply, or a Chinese character or token."""

    text: str
    queries: tuple[int, ...]
    """Which reply tokens it is made of, counted from the first reply token."""


class WordTime(NamedTuple):
    """Where a word really is in the sound."""

    text: str
    start_s: float
    end_s: float
    clip: int = 0
    """Which input clip it is in; times count from that clip's start."""

    @property
    def centre_s(self) -> float:
        """Middle of the word, seconds."""
        return (self.start_s + self.end_s) / 2


# --- rows ---------------------------------------------------------------------------------------------------------


def audio_rows(trace: Trace, head: Head) -> np.ndarray:
    """Return the attention of one head to the sound, float64 [query, frame]; a row sums to the share of the sound."""
    rows = layer_rows(trace, head.layer)
    if head.head is None:
        return rows.mean(axis=0)
    if not 0 <= head.head < len(rows):
        raise _refusal(f"head {head.head} of {len(rows)}", "a head that was captured, or None for their mean")
    return rows[head.head]


def attention_map(trace: Trace, head: Head) -> Statistic:
    """Return the attention of one head as a Statistic [query, frame], for figures."""
    frames = trace.frames
    axes = (
        Axis("query", labels=tuple(trace.tokens.text[i] for i in trace.reply)),
        Axis("frame", values=frames.centre_s, unit="s"),
    )
    return Statistic("attention to the sound", audio_rows(trace, head), axes, unit="share", notes=head._asdict())


def segment_mass(trace: Trace) -> Statistic:
    """Return how the attention of the reply is shared out, mean over heads and tokens, [layer, segment]; sums to 1."""
    if "attention.segments" not in trace.tensors or not trace.n_reply:
        raise _refusal("no attention over segments, or an empty reply", "a trace made by `capture_trace`")
    mass = trace.tensors["attention.segments"].astype(np.float64).mean(axis=(1, 2))
    axes = (Axis("layer", labels=trace.meta.layers), Axis("segment", labels=trace.meta.segments))
    return Statistic("share of attention", mass, axes, unit="share", n=trace.n_reply)


def layer_rows(trace: Trace, layer: int) -> np.ndarray:
    """Return float64 [head, query, frame] of one layer."""
    if "attention.audio" not in trace.tensors:
        raise _refusal("a trace without attention to the sound", "one made by `capture_trace`")
    if layer not in trace.meta.layers:
        raise _refusal(f"layer {layer}", f"one of the captured layers {list(trace.meta.layers)}")
    return trace.tensors["attention.audio"][trace.meta.layers.index(layer)].astype(np.float64)


# --- words --------------------------------------------------------------------------------------------------------


def words(trace: Trace) -> tuple[Word, ...]:
    """Group the text tokens of the reply into words.

    Words are what stands between spaces and punctuation; Chinese and Japanese are taken token by token, as attention
    cannot be divided inside a token. Punctuation, control tokens and codes belong to no word.
    """
    texts = [_said(trace, place) or _BREAK[trace.tokens.kind[place]] for place in trace.reply]
    owner = [query for query, text in enumerate(texts) for _ in text]
    found: list[Word] = []
    for match in _WORD.finditer("".join(texts)):
        queries = sorted({query for place in range(*match.span()) for query in _with_waiting(owner[place], texts)})
        if found and found[-1].queries[-1] >= queries[0]:  # two characters in one token
            last = found.pop()
            found.append(Word(last.text + match[0], tuple(sorted({*last.queries, *queries}))))
        else:
            found.append(Word(match[0], tuple(queries)))
    return tuple(found)


_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = rf"[^\W_{_CJK}]"
_WORD = re.compile(rf"[{_CJK}]|{_LETTER}+(?:['’\-]{_LETTER}+)*")
_BREAK = {**dict.fromkeys(TOKEN_KINDS, "\n"), "text": "", "thought": "", "tool": ""}
"""What stands in for a token without words: a control token or a code ends a word, an unfinished character does not."""


def _with_waiting(query: int, texts: Sequence[str]) -> list[int]:
    """Return a token and those right before it that hold the beginning of its character."""
    start = query
    while start > 0 and not texts[start - 1]:
        start -= 1
    return list(range(start, query + 1))


def match_words(trace: Trace, truth: Sequence[WordTime]) -> dict[int, tuple[int, ...]]:
    """Find the reply tokens that say each true word, whatever the two sides call a word.

    Both are compared letter by letter, case and punctuation aside, so that "九点" in the truth is found in the tokens
    "九" and "点". Only words found whole count: a misheard word points nowhere in particular.

    Returns:
        Place in `truth` -> reply tokens, counted from the first reply token.
    """
    said = [(letter, query) for query, place in enumerate(trace.reply) for letter in _letters(_said(trace, place))]
    true = [(letter, index) for index, word in enumerate(truth) for letter in _letters(word.text)]
    texts = ["".join(letter for letter, _ in side) for side in (true, said)]
    blocks = difflib.SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks()
    pairs = {block.a + k: block.b + k for block in blocks for k in range(block.size)}
    matched: dict[int, tuple[int, ...]] = {}
    for index in range(len(truth)):
        letters = [place for place, (_, owner) in enumerate(true) if owner == index]
        places = [pairs[place] for place in letters if place in pairs]
        if letters and len(places) == len(letters) and places[-1] - places[0] == len(places) - 1:
            matched[index] = tuple(dict.fromkeys(said[place][1] for place in places))
    return matched


def _said(trace: Trace, place: int) -> str:
    return trace.tokens.text[place] if trace.tokens.kind[place] in ("text", "thought", "tool") else ""


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


# --- times --------------------------------------------------------------------------------------------------------


def attention_time_s(
    trace: Trace, head: Head | None = None, *, per: Literal["token", "word"] = "token", centre: Centre = "mean"
) -> Statistic:
    """Return the attention-weighted time of every token or word of the reply.

    Args:
        trace: Who looked.
        head: Which head to read; None takes `default_head`.
        per: Time of each reply token, or of each word (its tokens' attention added up).
        centre: Weighted mean, or weighted median, which a far-off second peak cannot pull.

    Returns:
        Seconds inside the clip that is looked at most, [query] or [word]; NaN where the sound gets no attention.
    """
    head = head or default_head(trace)
    rows, frames = audio_rows(trace, head), trace.frames
    labels: tuple[str, ...] = tuple(trace.tokens.text[i] for i in trace.reply)
    if per == "word":
        grouped = words(trace)
        rows = np.array([rows[list(word.queries)].sum(axis=0) for word in grouped]).reshape(len(grouped), len(frames))
        labels = tuple(word.text for word in grouped)
    times = _times(rows, frames.centre_s, frames.clip, centre)
    axis = Axis("word" if per == "word" else "query", labels=labels)
    return Statistic("attention-weighted time", times, (axis,), unit="s", notes={**head._asdict(), "centre": centre})


def _times(rows: np.ndarray, centre_s: np.ndarray, clip: np.ndarray, centre: Centre) -> np.ndarray:
    """Return the weighted time of each row, [...]; rows are [..., frame]."""
    if not rows.size:
        return np.full(rows.shape[:-1], np.nan)
    sums = np.stack([rows[..., clip == k].sum(axis=-1) for k in range(clip.max() + 1)], axis=-1)
    inside = rows * (clip == sums.argmax(axis=-1)[..., None])
    total = inside.sum(axis=-1, keepdims=True)
    weights = np.divide(inside, total, out=np.full_like(inside, np.nan), where=total > 0)
    if centre == "mean":
        return weights @ centre_s
    middle = (np.nan_to_num(weights).cumsum(axis=-1) >= 0.5).argmax(axis=-1)
    return np.where(total[..., 0] > 0, centre_s[middle], np.nan)


# --- heads --------------------------------------------------------------------------------------------------------


def listening_scores(traces: Sequence[Trace]) -> Statistic:
    """Score every head by how much, how sharply and how orderly it follows the sound, without knowing any truth.

    score = share of attention on the sound
            x (1 - entropy over the frames / log(number of frames))          a sharp look scores 1, an even one 0
            x max(0, rank correlation of token order and attended time)      speech is written down in its own order

    each a mean over the text tokens of a trace, then over traces. Heads that look evenly, or always at the same spot,
    score 0.

    Returns:
        [layer, head], 0..1, mean over the traces; `n` is their number.
    """
    traces = _alike(traces)
    scores = np.stack([_scores_of(trace) for trace in traces]).mean(axis=0)
    return Statistic("listening score", scores, _head_axes(traces[0]), n=len(traces))


def best_head(traces: Sequence[Trace]) -> Head:
    """Return the head with the highest listening score."""
    return _argbest(listening_scores(traces).values, traces[0], np.argmax)


def default_head(trace: Trace) -> Head:
    """Return the head to look at first: the checkpoint's own alignment head, else the best by listening score.

    One short turn says little about a head; what a checkpoint names was chosen on many.
    """
    return next(iter(named_heads(trace)), None) or best_head([trace])


def named_heads(trace: Trace) -> tuple[Head, ...]:
    """Return the alignment heads that the checkpoint names and the trace has, best first."""
    if trace.meta.capture.heads == "mean":
        return ()
    known = (Head(*pair) for pair in trace.meta.alignment_heads)
    return tuple(head for head in known if head.layer in trace.meta.layers and 0 <= head.head < trace.meta.n_heads)


def _scores_of(trace: Trace) -> np.ndarray:
    """Return the listening scores of one trace, float64 [layer, head]."""
    queries = [query for word in words(trace) for query in word.queries]
    rows = trace.tensors["attention.audio"][:, :, queries].astype(np.float64)
    if not rows.size:
        return np.zeros(rows.shape[:2])
    mass = rows.sum(axis=-1, keepdims=True)
    shares = np.divide(rows, mass, out=np.zeros_like(rows), where=mass > 0)
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=-1)
    sharp = 1 - entropy / np.log(max(2, rows.shape[-1]))
    frames = trace.frames
    order = _rank_correlation(_times(rows, frames.centre_s + 1e6 * frames.clip, 0 * frames.clip, "mean"))
    return mass[..., 0].mean(axis=-1) * np.clip(sharp.mean(axis=-1), 0, 1) * np.clip(order, 0, 1)


def _rank_correlation(times: np.ndarray) -> np.ndarray:
    """Correlate the ranks of [..., query] with 0, 1, 2 ...; fewer than three values count as in order."""
    n = times.shape[-1]
    if n < 3:
        return np.ones(times.shape[:-1])
    ranks = times.argsort(axis=-1).argsort(axis=-1) - (n - 1) / 2
    moving = np.ptp(np.nan_to_num(times), axis=-1) > 1e-9  # a head that never moves has no order
    return np.where(moving, ranks @ (np.arange(n) - (n - 1) / 2) / (n * (n**2 - 1) / 12), 0.0)


def _alike(traces: Sequence[Trace]) -> Sequence[Trace]:
    """Refuse traces whose heads cannot be compared."""
    shapes = {(trace.meta.layers, trace.meta.n_heads) for trace in traces if "attention.audio" in trace.tensors}
    if len(shapes) != 1 or any("attention.audio" not in trace.tensors for trace in traces):
        raise _refusal(f"traces with {len(shapes)} different sets of heads", "traces of one model, captured alike")
    return traces


def _head_axes(trace: Trace) -> tuple[Axis, Axis]:
    return Axis("layer", labels=trace.meta.layers), Axis("head", labels=tuple(range(trace.meta.n_heads)))


def _argbest(values: np.ndarray, trace: Trace, pick: object) -> Head:
    layer, head = np.unravel_index(pick(values), values.shape)
    return Head(trace.meta.layers[int(layer)], None if trace.meta.capture.heads == "mean" else int(head))


# --- against the truth --------------------------------------------------------------------------------------------


def pointing_error(
    traces: Sequence[Trace],
    truth: Sequence[Sequence[WordTime]],
    *,
    choose: Literal["error", "score"] = "error",
    folds: int = 5,
    centre: Centre = "mean",
    exclude: Collection[Head] = (),
    seed: int = 0,
) -> Statistic:
    """Measure how far from a word's true centre its attention-weighted time is.

    The clips are dealt into folds; for each fold the head is chosen on the clips of the other folds only, and the
    words of the fold are measured with it. So no clip has a say in the choice of the head that it is judged by.

    Args:
        traces: One for each clip, of one model, captured alike.
        truth: The true word times of each clip.
        choose: Take the head with the smallest median error on the other clips, or, needing no truth, with the
            highest listening score on them.
        folds: How many parts to deal the clips into; at most one for each clip.
        centre: As for `attention_time_s`.
        exclude: Heads that may not be chosen, such as those that training told where to look.
        seed: Seed of the bootstrap.

    Returns:
        Median |dt| in seconds over all words, with a 95 % bootstrap interval that resamples clips; `n` is the number
        of words measured. Notes: heads by fold, the share within 50, 100 and 150 ms, words found and words in all.

    Raises:
        TraceError: With fewer than two clips, or when no word was found.
    """
    traces = _alike(traces)
    if len(traces) != len(truth) or len(traces) < 2:
        raise _refusal(f"{len(traces)} traces and {len(truth)} lists of word times", "the same number, at least two")
    errors = [_errors(trace, times, centre) for trace, times in zip(traces, truth)]
    if not sum(error.shape[-1] for error in errors):
        raise _refusal("no true word in any reply", "replies that say the words")
    scores = np.stack([_scores_of(trace) for trace in traces]) if choose == "score" else None
    barred = _barred(traces[0], exclude)
    measured: list[np.ndarray] = []
    chosen: list[Head] = []
    for fold in range(min(folds, len(traces))):
        inside = [k for k in range(len(traces)) if k % folds == fold]
        others = [k for k in range(len(traces)) if k % folds != fold]
        if choose == "score":
            head = _argbest(np.where(barred, -np.inf, scores[others].mean(axis=0)), traces[0], np.argmax)
        else:
            medians = _median(np.concatenate([errors[k] for k in others], axis=-1))
            head = _argbest(np.where(barred, np.inf, medians), traces[0], np.argmin)
        place = traces[0].meta.layers.index(head.layer), head.head or 0
        measured += [errors[k][place] for k in inside]
        chosen.append(head)
    low, high = _interval(measured, np.random.default_rng(seed))
    every = np.concatenate(measured)
    notes = {
        "heads": [list(head) for head in chosen],
        "choose": choose,
        "centre": centre,
        "within": {f"{limit} ms": float((every <= limit / 1000).mean()) for limit in (50, 100, 150)},
        "clips": len(traces),
        "words": sum(map(len, truth)),
    }
    return Statistic("median |dt|", np.median(every), unit="s", low=low, high=high, n=len(every), notes=notes)


def _barred(trace: Trace, exclude: Collection[Head]) -> np.ndarray:
    """Mark the heads that may not be chosen, bool [layer, head]."""
    barred = np.zeros((len(trace.meta.layers), trace.meta.n_heads), dtype=bool)
    for head in exclude:
        if head.layer in trace.meta.layers:
            barred[trace.meta.layers.index(head.layer), head.head or 0] = True
    if barred.all():
        raise _refusal("every head excluded", "at least one head to choose")
    return barred


def _errors(trace: Trace, truth: Sequence[WordTime], centre: Centre) -> np.ndarray:
    """Return |attended time - true centre| of each word found, float64 [layer, head, word]."""
    matched, frames = match_words(trace, truth), trace.frames
    rows = trace.tensors["attention.audio"].astype(np.float64)
    out = np.empty((*rows.shape[:2], len(matched)))
    for place, (index, queries) in enumerate(matched.items()):
        here = rows[:, :, list(queries)].sum(axis=2) * (frames.clip == truth[index].clip)
        out[..., place] = np.abs(_times(here, frames.centre_s, frames.clip, centre) - truth[index].centre_s)
    return np.nan_to_num(out, nan=np.inf)


def _median(errors: np.ndarray) -> np.ndarray:
    return np.median(errors, axis=-1) if errors.shape[-1] else np.zeros(errors.shape[:-1])


def _interval(by_clip: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median over words, clips drawn with replacement."""

    def medians() -> Iterator[float]:
        while True:
            drawn = np.concatenate([by_clip[k] for k in rng.integers(len(by_clip), size=len(by_clip))])
            if len(drawn):
                yield float(np.median(drawn))

    stream = medians()
    samples = [next(stream) for _ in range(N_RESAMPLES)]
    return float(np.percentile(samples, 2.5)), float(np.percentile(samples, 97.5))


def _refusal(found: str, expected: str) -> TraceError:
    return TraceError("read attention from a trace", found=found, expected=expected, todo="Capture the turns again.")
