"""Ridge regression agrees with a second implementation and judges only what it has not seen."""

import numpy as np
import pytest

from analysis.ridge import STRENGTHS, cross_validated, ridge_predictions


@pytest.mark.parametrize("shape", [(40, 7), (12, 30)], ids=["rows > width", "rows < width"])
def test_it_solves_the_normal_equations(shape):
    """Law 8, a second implementation; both forms of the eigendecomposition, and rows left out one by one."""
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(size=shape) * 5 + 2, rng.normal(size=(shape[0], 3)), rng.normal(size=(9, shape[1])) * 5 + 2
    z, z_new = (x - x.mean(0)) / x.std(0), (new - x.mean(0)) / x.std(0)
    unit = (z**2).sum() / len(z)
    for strength, (found, without) in zip(STRENGTHS, ridge_predictions(x, y, new)):
        np.testing.assert_allclose(found, by_hand(z, y, z_new, strength * unit), rtol=1e-5, atol=1e-7)
        if strength >= 1e-2:
            left_out = [np.delete(np.arange(len(z)), k) for k in range(len(z))]
            again = [refit(z[k], y[k], z[[i]], strength * unit)[0] for i, k in enumerate(left_out)]
            np.testing.assert_allclose(without, again, rtol=1e-4, atol=1e-6)


def by_hand(z, y, new, strength):
    weights = np.linalg.solve(z.T @ z + strength * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    return new @ weights + y.mean(0)


def refit(z, y, new, strength):
    """The same with the intercept fitted anew, as it must be when a row is left out."""
    return by_hand(z - z.mean(0), y, new - z.mean(0), strength)


def test_a_dimension_that_never_varies_is_left_out():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 3))
    with_constant = np.c_[x, np.full(20, 7.0)]
    y, new = rng.normal(size=(20, 1)), rng.normal(size=(5, 3))
    one, other = ridge_predictions(with_constant, y, np.c_[new, np.full(5, 99.0)]), ridge_predictions(x, y, new)
    for (found, _), (expected, _) in zip(one, other):
        np.testing.assert_allclose(found, expected, atol=0.02)  # the unit of strength counts the dimension


def test_the_strength_is_chosen_without_the_fold_that_is_judged():
    """What the last fold says in one dimension cannot help: the other folds have noise there."""
    rng = np.random.default_rng(2)
    fold = np.repeat(np.arange(4), 25)
    y = rng.integers(0, 2, 100).astype(float)
    x = rng.normal(size=(100, 5))
    x[fold == 3, 0] = 10 * y[fold == 3]
    scores, _ = cross_validated(x, y[None], np.ones((1, 100)), fold, is_class=True)
    assert scores[0, fold == 3].mean() < 0.75


def test_rare_classes_count_as_much_as_common_ones():
    """One in ten is of the rare class; the plain regression would hardly ever say so."""
    rng = np.random.default_rng(3)
    y = (np.arange(600) % 10 == 0).astype(float)
    x = rng.normal(size=(600, 4))
    x[:, 0] += 2 * y
    weights = np.where(y == 1, 600 / (2 * y.sum()), 600 / (2 * (600 - y.sum())))
    scores, predicted = cross_validated(x, y[None], weights[None], np.arange(600) // 120, is_class=True)
    recall = [(predicted[y == k] == k).mean() for k in (0, 1)]
    assert np.mean(recall) == pytest.approx(scores.mean(), abs=1e-9) == pytest.approx(0.84, abs=0.04)
    assert abs(recall[0] - recall[1]) < 0.15


def test_classes_are_those_of_discriminant_analysis():
    """Three classes in five correlated dimensions, one class rare: as good as knowing means and spread."""
    rng = np.random.default_rng(5)
    y = rng.choice(3, 900, p=[0.6, 0.3, 0.1]).astype(float)
    mix, means = rng.normal(size=(5, 5)), rng.normal(size=(3, 5)) * 1.5
    x = (rng.normal(size=(900, 5)) + means[y.astype(int)]) @ mix
    weights = 300 / np.bincount(y.astype(int))[y.astype(int)]
    scores, _ = cross_validated(x, y[None], weights[None], np.arange(900) % 5, is_class=True)
    white = x @ np.linalg.inv(mix)
    best = ((white[:, None] - means) ** 2).sum(-1).argmin(-1) == y
    assert scores.mean() == pytest.approx((best * weights).mean(), abs=0.03)


def test_two_folds_are_enough():
    rng = np.random.default_rng(4)
    y = np.arange(60) % 2.0
    x = rng.normal(size=(60, 3)) + 3 * y[:, None]
    scores, _ = cross_validated(x, y[None], np.ones((1, 60)), np.arange(60) // 30, is_class=True)
    assert scores.mean() > 0.95
