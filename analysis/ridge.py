"""Ridge regression for many questions at once, judged on rows it has not seen.

One eigendecomposition of the training rows answers every set of targets at every strength:

    y(test) = Z_test Z' V (w + strength)^-1 V' (y - mean) + mean        Z: standardised by the training rows alone

The strength is chosen inside the training side: for the fold that is held out, by models that saw neither it nor the
fold they are judged on. Classes are read by discriminant analysis in the space of K regressions on their indicators,
every class as likely as the others, so that rare ones are not drowned; where the classes lie in that space is taken
from leave-one-out predictions, because the fitted ones flatter themselves when the width exceeds the rows.

Source: Hoerl and Kennard 1970 (ridge); Hastie, Buja and Tibshirani 1995 (penalized discriminant analysis).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

STRENGTHS = 10.0 ** np.arange(-4, 5)
"""Ridge strengths tried, in units of the mean squared length of a row."""


def cross_validated(
    x: np.ndarray, targets: np.ndarray, weights: np.ndarray, fold: np.ndarray, *, is_class: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Predict every row from the other folds, for every set of targets.

    Args:
        x: [row, width].
        targets: Class numbers from 0, or numbers, [set, row]; the first set's predictions are returned.
        weights: How much a row counts in the score of a set, [set, row]; mean 1. Only used for classes.
        fold: Fold of each row, [row].
        is_class: Whether targets are classes.

    Returns:
        Score of each row, [set, row], whose mean is the balanced accuracy or the share of variance explained; and
        predictions of the first set, [row].
    """
    y = _indicators(targets) if is_class else targets[..., None]  # [set, row, column]
    folds = np.unique(fold)
    inner = {held: np.zeros((len(STRENGTHS), len(targets))) for held in folds}
    for pair in combinations(folds, 2) if len(folds) > 2 else ():  # of two folds, none is left to train on
        either = np.isin(fold, pair)
        answers = _answers(x, y, ~either, either, is_class)
        judged = _scores(answers, targets, weights, either, is_class)
        for one, other in (pair, pair[::-1]):
            inner[one] += judged[..., fold[either] == other].sum(axis=-1)
    scores, predicted = np.full(targets.shape, np.nan), np.full(x.shape[0], np.nan)
    for held in folds:
        rows = fold == held
        answers = _answers(x, y, ~rows, rows, is_class)
        judged = _scores(answers, targets, weights, rows, is_class)
        best = inner[held].argmax(axis=0) if inner[held].any() else np.full(len(targets), len(STRENGTHS) // 2)
        scores[:, rows] = judged[best, np.arange(len(targets))]
        predicted[rows] = answers[best[0], 0]
    return scores, predicted


def ridge_predictions(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, strengths: np.ndarray = STRENGTHS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Fit and predict, at every strength.

    Args:
        x_train: [row, width].
        y_train: [row, target].
        x_test: [row, width].
        strengths: In units of the mean squared length of a standardised training row.

    Yields:
        For each strength, predictions float64 [test row, target], and of the training rows those of a fit without
        the row itself, [row, target].
    """
    centre, scale = x_train.mean(axis=0), x_train.std(axis=0)
    scale = np.where(scale > 1e-8 * max(scale.max(initial=0.0), 1e-30), scale, np.inf)  # what never varies says nothing
    z, z_test = (x_train - centre) / scale, (x_test - centre) / scale
    mean = y_train.mean(axis=0)
    residual = y_train - mean
    if z.shape[0] <= z.shape[1]:
        values, vectors = np.linalg.eigh(z @ z.T)
        left, right = z_test @ (z.T @ vectors), vectors.T @ residual
        own = vectors * np.maximum(values, 0.0)
        hats = own * vectors
    else:
        values, vectors = np.linalg.eigh(z.T @ z)
        own = z @ vectors
        left, right = z_test @ vectors, own.T @ residual
        hats = own**2
    values = np.maximum(values, 0.0)
    unit = max(values.sum() / len(z), 1e-12)
    for strength in strengths:
        shrunk = 1 / (values + strength * unit)
        hat = np.minimum(hats @ shrunk + 1 / len(z), 1 - 1e-6)[:, None]  # the mean has its share, too
        without = y_train - (residual - (own * shrunk) @ right) / (1 - hat)
        yield (left * shrunk) @ right + mean, without


def _indicators(targets: np.ndarray) -> np.ndarray:
    """Return one column for each class, float64 [set, row, class]."""
    return (targets[..., None] == np.arange(int(targets.max()) + 1)).astype(np.float64)


def _answers(x: np.ndarray, y: np.ndarray, train: np.ndarray, rows: np.ndarray, is_class: bool) -> np.ndarray:
    """Return predictions for some rows, class numbers or numbers, [strength, set, row]."""
    n_sets, _, n_columns = y.shape
    seen = y[:, train]
    flat = seen.transpose(1, 0, 2).reshape(seen.shape[1], -1)
    answers = []
    for found, without in ridge_predictions(x[train], flat, x[rows]):
        found, without = (part.reshape(len(part), n_sets, n_columns).transpose(1, 0, 2) for part in (found, without))
        answers.append(_classes(found, without, seen) if is_class else found[..., 0])
    return np.stack(answers)


def _classes(found: np.ndarray, without: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the nearest class of each row by the spread within classes, int64 [set, row].

    Args:
        found: Predictions to be judged, [set, row, class].
        without: Leave-one-out predictions of the training rows, [set, training row, class].
        truth: Their indicators, likewise.
    """
    counts = truth.sum(axis=1)  # [set, class]
    means = truth.transpose(0, 2, 1) @ without / np.maximum(counts, 1)[..., None]
    apart = without - truth @ means
    spread = apart.transpose(0, 2, 1) @ apart / truth.shape[1]
    # Predictions sum to one, so nothing spreads along that direction; any positive number there does.
    size = np.maximum(np.trace(spread, axis1=1, axis2=2), 1e-12)[:, None, None]
    metric = np.linalg.inv(spread + size * (np.ones_like(spread) + 1e-6 * np.eye(spread.shape[1])))
    directions = means @ metric  # [set, class, column]
    offsets = (directions * means).sum(axis=-1) / 2
    scores = found @ directions.transpose(0, 2, 1) - offsets[:, None]
    return np.where(counts[:, None] > 0, scores, -np.inf).argmax(axis=-1)


def _scores(
    answers: np.ndarray, targets: np.ndarray, weights: np.ndarray, rows: np.ndarray, is_class: bool
) -> np.ndarray:
    """Return the score of each row, [strength, set, row]."""
    truth = targets[None, :, rows]
    if is_class:
        return (answers == truth) * weights[None, :, rows]
    spread = np.maximum(targets.var(axis=1), 1e-30)[None, :, None]
    return 1 - (answers - truth) ** 2 / spread
