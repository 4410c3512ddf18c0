"""BLEU of whole corpora, with the tokenizers that published numbers use, and how sure one can be of it.

    sentence ──13a (English) | zh (Chinese)──> tokens ──> matched, possible 1- to 4-grams, lengths [10 counts]
    rows of all sentences, summed ──> precisions x brevity penalty = BLEU, 0 to 100

BLEU belongs to a corpus: sums of counts, never a mean of sentences. Every score carries its signature, because the
tokenizer and the normalisation move it by points. The counts, the smoothing and both tokenizers agree with sacrebleu's.

Source: Papineni et al. 2002; Post 2018 ("A Call for Clarity in Reporting BLEU Scores"); NIST mteval-v13a.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model.tasks.normalize import NORMALIZERS

MAX_ORDER = 4
_HYP, _REF = 2 * MAX_ORDER, 2 * MAX_ORDER + 1
"""Columns of a row of counts: 4 matched, 4 possible, length of the hypothesis, of the nearest reference."""
_ENTITIES = (("<skipped>", ""), ("-\n", ""), ("\n", " "), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SYMBOLS = re.compile(r"[!-&(-+:-@\[-`{-~/]")
_MARK_AFTER, _MARK_BEFORE = re.compile(r"([^0-9])([.,])"), re.compile(r"([.,])([^0-9])")
_DASH = re.compile(r"([0-9])(-)")
# The reference tokenizer writes two ranges of the second plane with four digits, which makes them reach over
# U+2001..U+2A6D, dashes and curly quotes included; a character of the second plane stays unsplit. Kept, to be equal.
_CHINESE = re.compile(
    "([\u2001-\u2a6d\u2e80-\u2fdf\u2ff0-\u303f\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u33ff\u3400-\u4db5"
    "\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef])"
)


def tokenize_13a(text: str) -> list[str]:
    """Cut text as mteval-v13a does: symbols apart, periods and commas apart unless they stand inside a number."""
    for entity, plain in _ENTITIES:
        text = text.replace(entity, plain)
    return _western(f" {text} ")


def tokenize_zh(text: str) -> list[str]:
    """Cut text into single Chinese characters and marks; what is not Chinese as `tokenize_13a`."""
    return _western(_CHINESE.sub(r" \1 ", text.strip()))


def _western(text: str) -> list[str]:
    text = _SYMBOLS.sub(r" \g<0> ", text)
    text = _MARK_BEFORE.sub(r" \1 \2", _MARK_AFTER.sub(r"\1 \2 ", text))
    return _DASH.sub(r"\1 \2 ", text).split()


TOKENIZERS: dict[str, tuple[str, Callable[[str], list[str]]]] = {"en": ("13a", tokenize_13a), "zh": ("zh", tokenize_zh)}
"""By language of the translation: name in a signature, function."""


@dataclass(frozen=True)
class Bleu:
    """BLEU with all that it came from."""

    score: float
    """0 to 100."""
    precisions: tuple[float, ...]
    """Of 1- to 4-grams, in percent, smoothed."""
    brevity_penalty: float
    hypothesis_length: int
    """Tokens."""
    reference_length: int
    signature: str
    """How it was computed, to stand beside the number."""

    def __str__(self) -> str:
        precisions = "/".join(f"{p:.1f}" for p in self.precisions)
        return f"BLEU {self.score:.2f} ({precisions}, BP {self.brevity_penalty:.3f}) {self.signature}"


def bleu(
    references: Sequence[str | Sequence[str]],
    hypotheses: Sequence[str],
    *,
    language: str,
    normalize: bool = False,
    effective_order: bool = False,
) -> Bleu:
    """Score translations against one or several references each.

    Args:
        references: One text, or a list of texts, per hypothesis.
        hypotheses: The translations, in the same order.
        language: Language of the translations, "en" or "zh".
        normalize: Compare without case and punctuation (`model.tasks.normalize`), as for recognised speech.
        effective_order: Leave out n-grams that the text is too short for; for single sentences.

    Raises:
        ValueError: If they cannot be paired, or the language has no tokenizer.
    """
    rows = bleu_counts(references, hypotheses, language=language, normalize=normalize)
    n_references = {1 if isinstance(each, str) else len(each) for each in references}
    parts = {
        "nrefs": n_references.pop() if len(n_references) == 1 else "var",
        "case": "lc" if normalize else "mixed",
        "eff": "yes" if effective_order else "no",
        "tok": TOKENIZERS[language][0],
        "smooth": "exp",
        **({"norm": NORMALIZERS[language].__name__} if normalize else {}),
    }
    signature = "|".join(f"{key}:{value}" for key, value in parts.items())
    return _score(rows.sum(axis=0), signature, effective_order)


def bleu_counts(
    references: Sequence[str | Sequence[str]], hypotheses: Sequence[str], *, language: str, normalize: bool = False
) -> np.ndarray:
    """Count what BLEU is made of, int64 [sentence, 10]; rows may be added and drawn again.

    Raises:
        ValueError: If they cannot be paired, or the language has no tokenizer.
    """
    if language not in TOKENIZERS or isinstance(references, str) or len(references) != len(hypotheses):
        raise ValueError(
            f"Could not compute BLEU: found {len(references)} references, {len(hypotheses)} hypotheses and the "
            f"language {language!r}, expected lists of one length and a language among {', '.join(TOKENIZERS)}."
        )
    tokenize, clean = TOKENIZERS[language][1], NORMALIZERS[language] if normalize else str.rstrip
    rows = [
        _row([tokenize(clean(text)) for text in ([said] if isinstance(said, str) else said)], tokenize(clean(heard)))
        for said, heard in zip(references, hypotheses, strict=True)
    ]
    return np.asarray(rows, dtype=np.int64).reshape(-1, 2 * MAX_ORDER + 2)


def bleu_interval(
    rows: np.ndarray, *, confidence: float = 0.95, n_resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bounds of corpus BLEU, by drawing the sentences again with replacement.

    Args:
        rows: From `bleu_counts`, at least one.
        confidence: Share of the resampled scores inside.
        n_resamples: How often to draw.
        seed: Makes the interval repeatable.
    """
    if not len(rows):
        raise ValueError("Could not compute an interval of BLEU: found no sentence, expected at least one.")
    rng = np.random.default_rng(seed)
    drawn = (rows[rng.integers(len(rows), size=len(rows))].sum(axis=0) for _ in range(n_resamples))
    edge = (1 - confidence) / 2
    low, high = np.quantile([_score(counts, "", False).score for counts in drawn], [edge, 1 - edge])
    return float(low), float(high)


def _ngrams(tokens: list[str]) -> Counter:
    """All n-grams of a sentence with their counts, one to four tokens long."""
    return Counter(tuple(tokens[k : k + n]) for n in range(1, MAX_ORDER + 1) for k in range(len(tokens) - n + 1))


def _row(references: list[list[str]], hypothesis: list[str]) -> list[int]:
    most: Counter = Counter()
    for reference in references:
        most |= _ngrams(reference)
    found, matched, possible = _ngrams(hypothesis), [0] * MAX_ORDER, [0] * MAX_ORDER
    for ngram, count in found.items():
        possible[len(ngram) - 1] += count
        matched[len(ngram) - 1] += min(count, most[ngram])
    nearest = min((abs(len(r) - len(hypothesis)), len(r)) for r in references)[1]
    return [*matched, *possible, len(hypothesis), nearest]


def _score(counts: np.ndarray, signature: str, effective_order: bool) -> Bleu:
    """Precisions with exponential smoothing (each empty order counts half of the one before), and the penalty."""
    n_hypothesis, n_reference = int(counts[_HYP]), int(counts[_REF])
    penalty = 1.0
    if n_hypothesis < n_reference:
        penalty = math.exp(1 - n_reference / n_hypothesis) if n_hypothesis else 0.0
    precisions, smooth, order = [0.0] * MAX_ORDER, 1.0, MAX_ORDER
    for n, (matched, possible) in enumerate(zip(counts[:MAX_ORDER], counts[MAX_ORDER:_HYP], strict=True)):
        if not possible:
            order = n if effective_order else order
            break
        smooth = smooth if matched else 2 * smooth
        precisions[n] = float(100 * matched / possible if matched else 100 / (smooth * possible))
    used = precisions[:order]
    hopeless = not counts[:MAX_ORDER].any() or not all(used)
    score = 0.0 if hopeless else penalty * math.exp(sum(map(math.log, used)) / len(used))
    return Bleu(score, tuple(precisions), penalty, n_hypothesis, n_reference, signature)
