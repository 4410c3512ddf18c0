"""Probes find what was planted by the margin that was planted, and nothing else."""

import threading
from math import erf, sqrt

import numpy as np
import pytest

from analysis.features import Features
from analysis.probes import deal_folds, overview, probe, probe_table, read_labels
from model.errors import TraceError

SPEAKERS, SENTENCES, WIDTH = 24, 10, 20
SPEAKER, SENTENCE = (part.ravel() for part in np.mgrid[:SPEAKERS, :SENTENCES])
GENDER = SPEAKER % 2
LANGUAGE = SENTENCE % 2
SEPARATION = 1.2816
"""Half the distance of two class means in standard deviations: the best possible accuracy is 90 %."""
BEST = 0.5 * (1 + erf(SEPARATION / sqrt(2)))


def planted(seed: int = 0) -> dict[str, np.ndarray]:
    """Sites with known contents; each row is one sentence by one speaker."""
    rng = np.random.default_rng(seed)
    n = len(SPEAKER)
    noise = {name: rng.normal(size=(n, WIDTH)) for name in ("nothing", "gender", "speaker", "sentence")}
    noise["gender"][:, 0] += SEPARATION * (2 * GENDER - 1)
    noise["speaker"] = 4 * rng.normal(size=(SPEAKERS, 60))[SPEAKER] + rng.normal(size=(n, 60))
    noise["sentence"] = 8 * np.eye(SENTENCES)[SENTENCE] + 0.3 * rng.normal(size=(n, SENTENCES))
    return noise


@pytest.fixture(scope="module")
def sites():
    return planted()


@pytest.fixture(scope="module")
def gender(sites):
    return probe(sites, GENDER, groups=SPEAKER, types=SENTENCE)


def test_the_planted_margin_is_found(gender):
    """90 % is the best there is, a control over sentences is chance: 40 points, less what learning costs."""
    at = gender.sites.index("gender")
    score, control, shuffled = gender.scores.values[:, at]
    assert BEST == pytest.approx(0.9, abs=1e-4)
    assert score == pytest.approx(BEST, abs=0.06) and control == pytest.approx(0.5, abs=0.06)
    assert shuffled == pytest.approx(0.5, abs=0.05)
    margin = gender.selectivity
    assert margin.low[at] <= BEST - 0.5 and margin.values[at] == pytest.approx(BEST - 0.5, abs=0.08)
    assert gender.scores.low[0, at] <= BEST <= gender.scores.high[0, at] + 0.03


def test_and_nothing_else_is(gender):
    """Noise says nothing; a voice print says nothing of unseen speakers; a sentence says nothing of who speaks."""
    assert gender.beats_control == ("gender",)
    assert gender.scores.values[0, gender.sites.index("speaker")] < 0.7


def test_the_voice_print_would_have_passed_without_groups(sites):
    """The same rows, split row by row: the probe knows the speakers, and their gender with them."""
    leaky = probe(sites, GENDER, groups=np.arange(len(GENDER)), types=SENTENCE)
    assert leaky.scores.values[0, leaky.sites.index("speaker")] > 0.95


def test_a_probe_that_memorises_types_does_not_beat_its_control(sites):
    """The site knows which sentence it is, hence its language, but any labels of sentences read as well."""
    found = probe({"sentence": sites["sentence"]}, LANGUAGE, groups=SPEAKER, types=SENTENCE)
    score, control, shuffled = found.scores.values[:, 0]
    assert score > 0.97 and control > 0.97 and shuffled < 0.6
    assert found.beats_control == () and abs(float(found.selectivity.values[0])) < 0.03


def test_noise_beats_its_control_as_rarely_as_the_interval_says():
    rng = np.random.default_rng(7)
    many = {f"noise {k}": rng.normal(size=(len(GENDER), 8)) for k in range(20)}
    assert len(probe(many, GENDER, groups=SPEAKER, types=SENTENCE).beats_control) <= 1


def test_the_margin_follows_the_separation():
    margins = []
    for separation in (0.0, 0.5, 1.0, 2.0):
        x = np.random.default_rng(1).normal(size=(len(GENDER), WIDTH))
        x[:, 3] += separation * (2 * GENDER - 1)
        margins.append(float(probe({"x": x}, GENDER, groups=SPEAKER, types=SENTENCE).selectivity.values[0]))
    assert margins == sorted(margins) and margins[0] < 0.08 and margins[-1] > 0.42


def test_a_planted_share_of_variance_is_found():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(len(GENDER), WIDTH))
    pitch = 100 + 20 * (2 * x[:, 0] + rng.normal(size=len(x)))  # 4 parts of 5 can be read
    found = probe({"x": x, "noise": rng.normal(size=x.shape)}, pitch.tolist(), groups=SPEAKER, types=SENTENCE)
    assert found.scores.name == "variance explained" and found.beats_control == ("x",)
    assert found.scores.values[0, 0] == pytest.approx(0.8, abs=0.06) and found.scores.values[1, 0] < 0.1
    with pytest.raises(TraceError, match="classes, which can be confused"):
        found.confusion("x")


def test_several_classes_and_their_confusion():
    """Two of three classes are the same to the probe."""
    rng = np.random.default_rng(3)
    mood = np.array(["calm", "glad", "angry"])[SPEAKER % 3]
    x = rng.normal(size=(len(mood), 6))
    x[mood == "angry", 0] += 5
    found = probe({"x": x}, mood, groups=SPEAKER)
    shares = found.confusion("x")
    assert shares.axes[0].labels == ("angry", "calm", "glad") and found.scores.notes["chance"] == pytest.approx(1 / 3)
    np.testing.assert_allclose(shares.values.sum(axis=1), 1)
    assert shares.values[0, 0] > 0.95 and 0.25 < shares.values[1, 2] < 0.75
    assert found.scores.values[0, 0] == pytest.approx(2 / 3, abs=0.08)


def test_missing_labels_are_left_out(sites):
    labels = [None if k % 3 == 0 else "" if k % 3 == 1 else str(label) for k, label in enumerate(GENDER)]
    found = probe({"gender": sites["gender"]}, labels, groups=SPEAKER)
    assert found.scores.n == len(GENDER) // 3 and set(found.rows % 3) == {2}
    assert (found.predicted[0] == found.truth).mean() > 0.7


def test_labels_of_clips_serve_their_frames():
    """Frames of a clip stay together in a split even if no groups are named."""
    rng = np.random.default_rng(4)
    clip = np.repeat(np.arange(30), 6)
    labels = ["a", "b"] * 15
    x = rng.normal(size=(180, 5))
    x[:, 0] += 2 * (clip % 2)
    features = Features({"x": x.astype(np.float32)}, clip, np.tile(np.arange(6) * 0.08, 30))
    found = probe(features, labels)
    assert found.scores.n == 180 and found.scores.notes["groups"] == 30
    frames = found.over_time(features, 3)
    assert frames.values.shape == (1, 6) and set(frames.texts[0]) <= {"a", "b"}
    np.testing.assert_allclose(frames.axis("frame").values, np.arange(6) * 0.08)
    np.testing.assert_array_equal(frames.values[0] == 1, frames.texts[0] == "b")


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_groups_whole_and_classes_even(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 40, 400)
    strata = (groups % 4 == 0).astype(int)
    fold = deal_folds(strata, groups, 5, seed)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    for k in range(2):
        counts = np.bincount(fold[strata == k], minlength=5)
        assert counts.min() > 0.5 * counts.mean()
    assert set(deal_folds(np.zeros(3, int), np.arange(3), 10)) == {0, 1, 2}


def test_a_table_is_probed_column_by_column(sites):
    table = {
        "gender": [str(g) for g in GENDER],
        "language": LANGUAGE.tolist(),
        "speaker": SPEAKER.tolist(),
        "sentence": SENTENCE.tolist(),
        "room": ["same"] * len(GENDER),
    }
    features = Features(
        {k: v.astype(np.float32) for k, v in sites.items()}, np.arange(len(GENDER)), np.full(len(GENDER), np.nan)
    )
    told = []
    results = probe_table(
        features, table, groups="speaker", types="sentence", n_baselines=3,
        progress=lambda step, share: told.append(share),
    )  # fmt: skip
    assert list(results) == ["gender", "language"] and told == [0.5, 1.0]
    grid = overview(results)
    assert grid.values.shape == (2, 4) and grid.axes[0].labels == ("gender", "language")
    assert overview(results, "shuffled").values.max() < 0.65
    with pytest.raises(TraceError, match="measure 'best'"):
        overview(results, "best")


def test_a_result_can_be_repeated(sites):
    one, two = (probe({"gender": sites["gender"]}, GENDER, groups=SPEAKER, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.scores.values, two.scores.values)
    np.testing.assert_array_equal(one.scores.low, two.scores.low)


def test_progress_and_cancel(sites):
    told, cancel = [], threading.Event()

    def progress(step: str, share: float) -> None:
        told.append((step, share))
        cancel.set()

    found = probe(sites, GENDER, groups=SPEAKER, progress=progress, cancel=cancel, n_baselines=2)
    assert told == [("probe", 0.25)] and np.isfinite(found.scores.values[:, 0]).all()
    assert np.isnan(found.scores.values[:, 1:]).all() and set(found.predicted[1]) == {""}


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        (["a", "b"], None, "2 labels"),
        (["a"] * 240, None, "classes \\['a'\\]"),
        (["a"] * 239 + ["b"], None, "single group"),
        (GENDER, GENDER, "single group"),
        ([1.5] * 240, None, "1 values"),
    ],
)
def test_what_cannot_be_probed_is_refused(sites, labels, groups, message):
    with pytest.raises(TraceError, match=message):
        probe(sites, labels, groups=groups)


def test_features_that_do_not_fit_are_refused(sites):
    with pytest.raises(TraceError, match="rows"):
        probe({**sites, "short": sites["gender"][:-1]}, GENDER)
    with pytest.raises(TraceError, match="rows"):
        Features({"x": np.zeros((3, 2), np.float32)}, np.arange(4), np.zeros(4))
    with pytest.raises(TraceError, match="not finite"):
        Features({"x": np.full((2, 2), np.nan, np.float32)}, np.arange(2), np.zeros(2))


def test_label_tables_are_read_and_ragged_ones_refused(tmp_path):
    (tmp_path / "labels.csv").write_text('file,gender\na.wav,f\n"b,c.wav",m\n', encoding="utf-8")
    assert read_labels(tmp_path / "labels.csv") == {"file": ["a.wav", "b,c.wav"], "gender": ["f", "m"]}
    (tmp_path / "labels.tsv").write_text("file\tgender\na.wav\tf\n", encoding="utf-8")
    assert read_labels(tmp_path / "labels.tsv")["gender"] == ["f"]
    (tmp_path / "ragged.csv").write_text("file,gender\na.wav\n", encoding="utf-8")
    with pytest.raises(TraceError, match="not as wide"):
        read_labels(tmp_path / "ragged.csv")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    with pytest.raises(TraceError, match="0 lines"):
        read_labels(tmp_path / "empty.csv")
