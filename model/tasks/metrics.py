"""Word and character error rates with their alignment, and how sure one can be of a mean; BLEU is in `bleu.py`.

Pure functions on strings and numbers. A rate over several utterances is all errors over all reference units, not the
mean of the single rates.

Source: Levenshtein 1966 (edit distance); Bisani & Ney 2004 (bootstrap over utterances for error rates).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from model.tasks.bleu import Bleu as Bleu
from model.tasks.bleu import bleu as bleu
from model.tasks.bleu import bleu_counts as bleu_counts
from model.tasks.bleu import bleu_interval as bleu_interval
from model.tasks.normalize import english, mandarin

Operation = Literal["equal", "substitute", "delete", "insert"]


class Edit(NamedTuple):
    """One step that turns the reference into the hypothesis."""

    operation: Operation
    reference: str
    """Unit of the reference; empty for an insertion."""
    hypothesis: str
    """Unit of the hypothesis; empty for a deletion."""


@dataclass(frozen=True)
class EditCounts:
    """How a hypothesis differs from its reference, in words or characters."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    """Units of the reference that are missing."""
    insertions: int = 0
    """Units of the hypothesis that nobody said."""

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def n_reference(self) -> int:
        """Units of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference unit, 0 or more; an empty reference counts as one unit."""
        return self.errors / max(1, self.n_reference)

    def __add__(self, other: "EditCounts") -> "EditCounts":
        return EditCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """Fewest edits from reference to hypothesis, in order; where several ways are shortest, pairs come first.

        reference    the  cat  sat   -    down
        hypothesis   the  hat   -   oh    down
                      =    S    D    I     =

    Args:
        reference: Words or characters that were said.
        hypothesis: Words or characters that were recognised.
    """
    back = _edit_table(reference, hypothesis)
    r, h = len(reference), len(hypothesis)
    edits: list[Edit] = []
    while r or h:
        move = back[r][h]
        if move == _PAIR:
            r, h = r - 1, h - 1
            same = reference[r] == hypothesis[h]
            edits.append(Edit("equal" if same else "substitute", reference[r], hypothesis[h]))
        elif move == _DELETE:
            r -= 1
            edits.append(Edit("delete", reference[r], ""))
        else:
            h -= 1
            edits.append(Edit("insert", "", hypothesis[h]))
    return edits[::-1]


_PAIR, _DELETE, _INSERT = range(3)


def _edit_table(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bytearray]:
    """For each pair of prefix lengths, the last move of a shortest way to it; row by row over the reference."""
    back = [bytearray([_PAIR] + [_INSERT] * len(hypothesis))]
    above = list(range(len(hypothesis) + 1))
    for said in reference:
        row, moves = [above[0] + 1], bytearray([_DELETE])
        for h, heard in enumerate(hypothesis, start=1):
            costs = (above[h - 1] + (said != heard), above[h] + 1, row[h - 1] + 1)
            move = costs.index(min(costs))
            row.append(costs[move])
            moves.append(move)
        above = row
        back.append(moves)
    return back


def count_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> EditCounts:
    """Count the edits of the shortest alignment."""
    found = [edit.operation for edit in align(reference, hypothesis)]
    return EditCounts(*(found.count(name) for name in ("equal", "substitute", "delete", "insert")))


def word_edits(reference: str, hypothesis: str, *, normalize: Callable[[str], str] = english) -> EditCounts:
    """Count differing words after normalisation."""
    return count_edits(normalize(reference).split(), normalize(hypothesis).split())


def character_edits(reference: str, hypothesis: str, *, normalize: Callable[[str], str] = mandarin) -> EditCounts:
    """Count differing characters after normalisation."""
    return count_edits(normalize(reference), normalize(hypothesis))


def wer(
    references: str | Sequence[str], hypotheses: str | Sequence[str], *, normalize: Callable[[str], str] = english
) -> float:
    """Word error rate over one or several utterances: 0 is perfect, above 1 is possible.

    Raises:
        ValueError: If there are not as many hypotheses as references.
    """
    return _rate(references, hypotheses, lambda r, h: word_edits(r, h, normalize=normalize))


def cer(
    references: str | Sequence[str], hypotheses: str | Sequence[str], *, normalize: Callable[[str], str] = mandarin
) -> float:
    """Character error rate over one or several utterances.

    Raises:
        ValueError: If there are not as many hypotheses as references.
    """
    return _rate(references, hypotheses, lambda r, h: character_edits(r, h, normalize=normalize))


def _rate(
    references: str | Sequence[str], hypotheses: str | Sequence[str], edits: Callable[[str, str], EditCounts]
) -> float:
    references = [references] if isinstance(references, str) else list(references)
    hypotheses = [hypotheses] if isinstance(hypotheses, str) else list(hypotheses)
    if len(references) != len(hypotheses):
        raise ValueError(
            f"Could not compute an error rate: found {len(references)} references and {len(hypotheses)} hypotheses, "
            "expected as many; pair them by utterance first."
        )
    return sum(map(edits, references, hypotheses), EditCounts()).rate


class Interval(NamedTuple):
    """Bounds between which a value lies with a given confidence."""

    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of a weighted mean, by drawing the utterances again with replacement.

    Args:
        values: One score per utterance, such as its error rate, [utterance].
        weights: One weight per utterance, such as its reference words, so that the mean is the corpus rate; not
            negative, not all zero. None weighs all the same.
        confidence: Share of the resampled means inside, in (0, 1).
        n_resamples: How often to draw.
        seed: Makes the interval repeatable.

    Raises:
        ValueError: If there is no value, or the weights do not fit.
    """
    v = np.asarray(values, dtype=np.float64)
    w = np.ones_like(v) if weights is None else np.asarray(weights, dtype=np.float64)
    if v.ndim != 1 or not v.size or w.shape != v.shape or (w < 0).any() or not w.sum() or not 0 < confidence < 1:
        raise ValueError(
            f"Could not compute an interval: found values {v.shape}, weights {w.shape} with sum {w.sum():g} and "
            f"confidence {confidence}, expected at least one value, a weight of 0 or more for each, not all 0, and a "
            "confidence between 0 and 1."
        )
    rng = np.random.default_rng(seed)
    means = [_resampled_mean(v, w, rng) for _ in range(n_resamples)]
    edge = (1 - confidence) / 2
    low, high = np.quantile(means, [edge, 1 - edge])
    return Interval(float(low), float(high))


def _resampled_mean(values: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> float:
    """Weighted mean of one draw; a draw whose weights are all zero is drawn again."""
    while True:
        drawn = rng.integers(values.size, size=values.size)
        if total := weights[drawn].sum():
            return float((values[drawn] * weights[drawn]).sum() / total)
